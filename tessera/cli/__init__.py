"""The command line: the one place that prints, and where the parts are put together."""
