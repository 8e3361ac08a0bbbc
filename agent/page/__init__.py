"""The report page: HTML and pictures, from a report alone."""
