"""The data pages: home, places, one place, properties, comparison. One module per page."""
