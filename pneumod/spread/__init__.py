"""The command's side of a batch that is spread over the site: `--cluster`."""
