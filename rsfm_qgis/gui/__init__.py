"""What the user sees: the dock with its forms and the run strip, and the options page."""
