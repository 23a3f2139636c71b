"""Ask the members of a running cluster who they are.

joiner      (`--initial-cluster-state=existing`) who this one is: its id has the time of its
            addition in it, so only they know it; it is found by its peer URLs. A member that has
            not heard of the addition yet is asked again.
lost disk   (`server.rejoining`) who the others are by now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from chainfire.config import Config
from chainfire.config.urls import Url, parse_url
from chainfire.errors import ConfigError
from chainfire.node.dialer import ask_roster
from chainfire.node.frames import BadFrame
from chainfire.node.peertls import PeerTls
from chainfire.node.roster import Roster
from chainfire.server.founding import Birth

JOIN_SECONDS_MAX = 30.0
NEWEST_SECONDS_MAX = 10.0
ASK_AGAIN_SECONDS = 0.5

log = logging.getLogger(__name__)


async def birth_of_joiner(config: Config, tls: PeerTls | None) -> Birth:
    """Raises ConfigError: nobody answers, or nobody knows this member."""
    cluster = config.cluster
    mine = [str(url) for url in cluster.initial_advertise_peer_urls]
    others = [
        url for name, urls in cluster.initial_cluster if name != config.member.name for url in urls
    ]
    if not others:
        raise ConfigError("initial-cluster: give the members of the cluster that is to be joined")
    heard: Roster | None = None
    is_told = False
    try:
        async with asyncio.timeout(JOIN_SECONDS_MAX):
            while True:
                for url in others:
                    heard = await _ask(url, tls) or heard
                    me = heard.find(mine) if heard is not None else None
                    if heard is not None and me is not None:
                        log.info("joining", extra={"member": f"{me.ID:x}", "asked": str(url)})
                        return Birth(
                            cluster_id=heard.cluster_id,
                            member_id=me.ID,
                            members=heard.members,
                            conf_state=heard.conf_state,
                            founded_at=0,
                        )
                if heard is not None and not is_told:
                    is_told = True
                    log.warning(
                        "no member of the cluster yet: add it (member add), or check its peer URLs",
                        extra={"peer_urls": ", ".join(mine), "seconds_max": JOIN_SECONDS_MAX},
                    )
                await asyncio.sleep(ASK_AGAIN_SECONDS)
    except TimeoutError:
        urls = ", ".join(map(str, others))
        if heard is None:
            raise ConfigError(f"initial-cluster: no member answers at {urls}") from None
        known = "; ".join(
            f"{member.name or f'{member.ID:x}'}: {', '.join(member.peerURLs)}"
            for member in heard.members
        )
        raise ConfigError(
            f"initial-cluster: no member of the cluster has the peer URLs {', '.join(mine)}; add "
            f"it first (member add). The members are {known}"
        ) from None


async def newest_roster(
    known: Roster, member_id: int, urls: Iterable[str], tls: PeerTls | None
) -> Roster:
    """The newest that members reached at `urls`, and those whom they name, know; `known` in vain.

    What is older than `known`, or does not name this member, is not taken: nobody may be counted
    by a membership that this member had already left behind.
    """
    newest, asked, unasked = known, set[str](), set(urls)
    try:
        async with asyncio.timeout(NEWEST_SECONDS_MAX):
            while unasked:
                answers = await asyncio.gather(
                    *(_ask(parse_url(url), tls) for url in sorted(unasked))
                )
                asked |= unasked
                for answer in answers:
                    if answer is not None and _is_newer(answer, newest, member_id):
                        newest = answer
                unasked = {url for member in newest.members for url in member.peerURLs} - asked
                if newest is known and not unasked:  # nobody could tell: once more
                    await asyncio.sleep(ASK_AGAIN_SECONDS)
                    asked, unasked = unasked, asked
    except TimeoutError:
        log.warning("nobody could tell who the members are now; going on with those once known")
    return newest


def _is_newer(answer: Roster, than: Roster, member_id: int) -> bool:
    return (
        answer.cluster_id == than.cluster_id
        and answer.known_at >= max(than.known_at, 1)
        and any(member_id == member.ID for member in answer.members)
    )


async def _ask(url: Url, tls: PeerTls | None) -> Roster | None:
    try:
        return await ask_roster(url, tls)
    except (OSError, TimeoutError, BadFrame) as exc:
        log.info("cannot ask a member", extra={"url": str(url), "detail": str(exc)})
        return None
