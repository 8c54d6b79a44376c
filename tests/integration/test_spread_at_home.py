"""`--cluster` where the work can't, or shouldn't, leave the machine: it is done there, and a line says why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.mosquitto import MOSQUITTO
from tests.integration.site import HOSPITAL, SiteCluster, begin, run_alone, slow_line, spying, write_images

IMAGES = 90
BYTES_PER_S = 2_000_000

pytestmark = [
    pytest.mark.skipif(MOSQUITTO is None, reason="Mosquitto is not installed (apt-get install mosquitto)"),
    pytest.mark.timeout(120),
]


async def test_no_image_goes_over_a_broker_of_another_site(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 10)
    with SiteCluster(tmp_path, "hospital-b", nodes=(1, 2)) as cluster:
        config = cluster.config_path(2)
        async with spying(cluster, files=True) as spy:
            await spy.all_up(nodes=2)
            said = await (await begin("predict", images, "--cluster", "--json", "--config", config)).end()
            assert spy.count("parcel") == spy.count("done") == 0
    assert said.out == run_alone("predict", images, "--json", "--config", config)
    assert "the broker in use is not marked as one of this site" in said.err
    assert "here: 11 images" in said.err


async def test_the_rest_stays_where_the_line_is_slow(tmp_path: Path) -> None:
    """A parcel needs a fifth of a second to be sent, and its image some milliseconds to be worked on."""
    images = write_images(tmp_path / "images", IMAGES)
    cluster = SiteCluster(tmp_path, HOSPITAL, nodes=(1, 2))
    async with slow_line(cluster.broker.port, BYTES_PER_S) as cluster.line:
        with cluster:
            config = cluster.config_path(2)
            async with spying(cluster) as spy:
                await spy.all_up(nodes=2)
                said = await (await begin("predict", images, "--cluster", "--json", "--config", config)).end()
    assert said.out == run_alone("predict", images, "--json", "--config", config)
    figures = re.search(r"an image of \d+ kB costs ([\d.]+) ms to send, and ([\d.]+) ms to work on here", said.err)
    assert figures is not None, said.err
    assert float(figures[1]) > float(figures[2])
