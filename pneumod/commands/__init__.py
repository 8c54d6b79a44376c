"""One module a command, each with `run(args: argparse.Namespace) -> int`; imported by cli when it runs."""
