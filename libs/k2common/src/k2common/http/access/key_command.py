"""`k2 keys create|rotate|revoke|list`: the keys of a fleet, in the file that its services read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from k2common.errors import K2Error
from k2common.http.access.keys import SCOPES, create, listed, revoke, rotate


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; a key's text is printed once, alone on standard output."""
    options = _parser().parse_args(arguments)
    now = datetime.now(UTC)
    try:
        if options.action == "create":
            sys.stdout.write(f"{create(options.file, name=options.name, scopes=options.scope, now=now)}\n")
        elif options.action == "rotate":
            grace = timedelta(hours=options.grace_hours)
            sys.stdout.write(f"{rotate(options.file, options.id, grace=grace, now=now)}\n")
        elif options.action == "revoke":
            revoke(options.file, options.id, now=now)
        else:
            for key in listed(options.file):
                ends = key.ends_at.isoformat() if key.ends_at else "-"
                sys.stdout.write(f"{key.id}\t{key.name}\t{','.join(key.scopes)}\t{ends}\n")
    except K2Error as error:
        sys.stderr.write(f"k2 keys: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="k2", description=__doc__)
    commands = parser.add_subparsers(required=True)
    keys = commands.add_parser("keys", help="API keys")
    keys.add_argument("--file", type=Path, required=True, help="the file of K2_HTTP__KEYS_FILE")
    actions = keys.add_subparsers(dest="action", required=True)
    new = actions.add_parser("create", help="add a key and print it")
    new.add_argument("--name", required=True, help="whose it is")
    new.add_argument("--scope", action="append", required=True, choices=SCOPES)
    again = actions.add_parser("rotate", help="print a new key for an old one")
    again.add_argument("id")
    again.add_argument("--grace-hours", type=float, default=24.0, help="the old one is accepted so long")
    actions.add_parser("revoke", help="accept a key no longer").add_argument("id")
    actions.add_parser("list", help="id, name, scopes and end of each key")
    return parser


if __name__ == "__main__":
    sys.exit(main())
