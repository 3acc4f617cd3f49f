"""The benchmark of videos runs over every source and tells of each."""


def test_it_measures_every_source(metaworld_here: str) -> None:
    from pipelines.tools.bench.videos import QUICK, lines, run

    rates = run(QUICK)
    assert [rate.what for rate in rates] == [
        "scripted: played", "video files: prepared",
        *(f"{source}: {what}" for source in ("npz", "frames") for what in ("hashed", "written", "read back")),
    ]  # fmt: skip
    assert [(rate.videos, rate.frames) for rate in rates] == [(1, 6)] + [(2, 12)] * 7
    assert all(rate.cpu > 0 and rate.wall > 0 for rate in rates) and len(lines(rates)) == 10
    assert "bytes a frame" in rates[-1].note
