"""Pictures in the page, and those that are too large to embed."""

from pipelines.leaderboard import page


def test_large_picture_is_named_not_embedded(tmp_path):
    path = tmp_path / "play.gif"
    path.write_bytes(b"GIF89a" + bytes(page.EMBED_UP_TO))
    found = page.picture(path, "alt", "demo plays Pong")
    assert found.source == "" and "3.1 MB, see play.gif" in found.caption
    path.write_bytes(b"GIF89a")
    assert page.picture(path, "alt", "x").source == "data:image/gif;base64,R0lGODlh"
    assert page.picture(path, "alt", "x", up_to=5).source == ""
