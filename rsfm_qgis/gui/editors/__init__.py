"""One module per kind of parameter: the widget that edits it."""
