"""What the operator's side keeps of devices: messages as stored, devices as shown."""
