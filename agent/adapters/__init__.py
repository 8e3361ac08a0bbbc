"""One file per port and technology: this listing is the support matrix."""
