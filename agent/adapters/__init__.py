"""A folder for each port, a module for each technology: this listing is the support matrix."""
