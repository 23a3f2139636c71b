"""`chainfire snapshot save|status|restore`."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import click

from chainfire.cli.common import Options, client_command

_HELP = {"help_option_names": ["-h", "--help"]}
EPILOG = """\b
Examples:
  chainfire snapshot save backup.snap
  chainfire snapshot status backup.snap
  chainfire snapshot restore backup.snap --data-dir=/var/lib/chainfire"""


@click.group("snapshot", epilog=EPILOG, context_settings=_HELP)
def command() -> None:
    """Keep a member's whole state in a file, look at such a file, start a cluster from it."""


@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def _save(shared: Options, file: Path) -> None:
    """Fetch a snapshot from the first endpoint into FILE. It is whole, or it is not there."""
    from chainfire.client.calls import snapshot_call

    part = file.with_name(file.name + ".part")
    try:
        with shared.client() as client, part.open("wb") as written:
            version = ""
            for reply in client.stream_at(client.endpoints[0], snapshot_call()):
                written.write(reply.blob)
                version = reply.version
            written.flush()
            os.fsync(written.fileno())
        _ensure_whole(part)
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)
    click.echo(f"Snapshot saved at {file}")
    if version:
        click.echo(f"Server version {version}")


def _ensure_whole(path: Path) -> None:
    """The SHA-256 of all before it stands at the end, in a file of etcd too."""
    left = path.stat().st_size - hashlib.sha256().digest_size
    hash_ = hashlib.sha256()
    with path.open("rb") as file:
        while left > 0 and (data := file.read(min(left, 1 << 20))):
            hash_.update(data)
            left -= len(data)
        if left or file.read() != hash_.digest():
            raise click.ClickException("the snapshot did not arrive whole; nothing was saved")


command.add_command(
    client_command("save", epilog="\b\nExample:\n  chainfire snapshot save backup.snap")(_save)
)


@command.command("status", epilog="\b\nExample:\n  chainfire snapshot status backup.snap")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-w", "--write-out", type=click.Choice(["simple", "json", "table"]), default="simple")
def status(file: Path, write_out: str) -> None:
    """Check all of FILE, and print what it holds: hash, revision, total keys, total size."""
    from chainfire.cli.output import Json
    from chainfire.cli.table import bytes_text, table
    from chainfire.server import restoring

    found = restoring.status(file)
    values = [
        f"{found.hash & 0xFFFFFFFF:x}",
        str(found.revision),
        str(found.total_keys),
        bytes_text(found.total_bytes),
        found.version,
    ]
    match write_out:
        case "json":
            facts = {
                "hash": found.hash & 0xFFFFFFFF,
                "revision": found.revision,
                "totalKey": found.total_keys,
                "totalSize": found.total_bytes,
                "version": found.version,
            }
            click.echo(Json.dump(facts))
        case "table":
            columns = ("hash", "revision", "total keys", "total size", "version")
            click.echo(table(columns, [values]))
        case _:
            click.echo(", ".join(values))


@command.command(
    "restore",
    epilog="\b\nExample:\n  chainfire snapshot restore backup.snap --data-dir=/var/lib/chainfire",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data-dir", default="", help="Where to; new or empty.  [default: NAME.chainfire]")
@click.option("--name", default="default", help="Name of the member.  [default: default]")
@click.option(
    "--initial-cluster",
    default="",
    help="All members of the new cluster, name=peer URL,…  [default: this member alone]",
)
@click.option(
    "--initial-cluster-token",
    default="etcd-cluster",
    help="A new one keeps the old cluster's members out.  [default: etcd-cluster]",
)
@click.option(
    "--initial-advertise-peer-urls",
    default="http://localhost:2380",
    help="Where the other members reach this one.  [default: http://localhost:2380]",
)
@click.option(
    "--bump-revision",
    type=click.IntRange(0),
    default=0,
    help="Go on with a revision that is larger by this much.",
)
@click.option(
    "--mark-compacted",
    is_flag=True,
    help="Refuse reads and watches below the new revision; needs --bump-revision.",
)
@click.option(
    "--skip-hash-check",
    is_flag=True,
    help="Take a file whose checksum of the whole is missing; its parts are checked all the same.",
)
def restore(
    file: Path,
    data_dir: str,
    name: str,
    initial_cluster: str,
    initial_cluster_token: str,
    initial_advertise_peer_urls: str,
    bump_revision: int,
    mark_compacted: bool,
    skip_hash_check: bool,
) -> None:
    """Make the data directory of a member of a new cluster from FILE.

    Do it for every member, from the same file and with the same options but name, directory and
    peer URLs; then start them with the same --initial-cluster and token.
    """
    from chainfire.config.kinds import parse_members
    from chainfire.config.urls import BadValue, parse_urls
    from chainfire.server.restoring import RestoreSettings
    from chainfire.server.restoring import restore as carry_out

    if mark_compacted and not bump_revision:
        raise click.UsageError("--mark-compacted needs --bump-revision")
    try:
        own = [str(url) for url in parse_urls(initial_advertise_peer_urls)]
        members = {
            member: [str(url) for url in urls] for member, urls in parse_members(initial_cluster)
        } or {name: own}
    except BadValue as exc:
        raise click.UsageError(str(exc)) from exc
    if sorted(members.get(name, ())) != sorted(own):
        raise click.UsageError(
            f"--initial-cluster must give {name!r} the URLs of --initial-advertise-peer-urls"
        )
    restored = carry_out(
        file,
        RestoreSettings(
            data_dir=Path(data_dir or f"{name}.chainfire"),
            name=name,
            initial_cluster=members,
            initial_cluster_token=initial_cluster_token,
            bump_revision=bump_revision,
            mark_compacted=mark_compacted,
            skip_hash_check=skip_hash_check,
        ),
    )
    click.echo(
        f"restored revision {restored.revision} as member {restored.member_id:x} of cluster "
        f"{restored.cluster_id:x}"
    )
