"""Join a running cluster: ask its members who this one is (`--initial-cluster-state=existing`).

Its id has the time of its addition in it, so only they know it: it is found by
its peer URLs. A member that has not heard of the addition yet is asked again.
"""

from __future__ import annotations

import asyncio
import logging

from chainfire.config import Config
from chainfire.config.urls import Url
from chainfire.errors import ConfigError
from chainfire.node.dialer import ask_roster
from chainfire.node.frames import BadFrame
from chainfire.node.peertls import PeerTls
from chainfire.node.roster import Roster
from chainfire.server.founding import Birth

JOIN_SECONDS_MAX = 30.0
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
                await asyncio.sleep(ASK_AGAIN_SECONDS)
    except TimeoutError:
        urls = ", ".join(map(str, others))
        if heard is None:
            raise ConfigError(f"initial-cluster: no member answers at {urls}") from None
        known = "; ".join(f"{m.name or m.ID}: {', '.join(m.peerURLs)}" for m in heard.members)
        raise ConfigError(
            f"initial-cluster: no member of the cluster has the peer URLs {', '.join(mine)}; add "
            f"it first (member add). The members are {known}"
        ) from None


async def _ask(url: Url, tls: PeerTls | None) -> Roster | None:
    try:
        return await ask_roster(url, tls)
    except (OSError, TimeoutError, BadFrame) as exc:
        log.info("cannot ask a member", extra={"url": str(url), "detail": str(exc)})
        return None
