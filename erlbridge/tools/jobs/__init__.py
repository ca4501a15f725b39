"""Jobs from the command line: arguments become requests, a node of the command's own answers them, over its wire."""
