"""Which pictures belong to one site: neighbours in space or frames of one flight are never on both sides."""

import re
from collections.abc import Iterable

SITES = {
    "st_marguerite": r"st_marguerite_\w+/.*",
    "autumn_wood": r"woodland_creek/.*|dry_land/caliterra.*",
    "elwha_mouth": r"elwha_thermal/.*",
}
"""Sites that are not simply a folder."""
FLIGHT = r"^(st_marguerite|[a-z_]+)(?:[a-z_]*/tile(\d+)|[a-z_]*/(\d{4})[-_]?(\d\d)-?(\d\d))?"
"""What stays together inside a site: a tile of dubai, a day of usgs_coast, otherwise all of it."""


def site_of(name: str) -> str:
    """The site of a picture named group/stem; the group where no rule says otherwise."""
    for site, pattern in SITES.items():
        if re.fullmatch(pattern, name):
            return site
    return name.split("/")[0]


def by_site(names: Iterable[str]) -> dict[str, list[str]]:
    """Names by their site, both in alphabetical order."""
    sites: dict[str, list[str]] = {}
    for name in sorted(names):
        sites.setdefault(site_of(name), []).append(name)
    return dict(sorted(sites.items()))
