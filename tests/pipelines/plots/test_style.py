"""The PNG writer: palette images, the same bytes every time."""

from PIL import Image

from pipelines.plots import style


def test_save_writes_a_palette_png_without_metadata(tmp_path):
    drawn, panels = style.grid(3, columns=2)
    for axes in panels:
        style.quieten(axes, "loss")
    style.save(drawn, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P" and image.info == {}
        assert image.size == (round(2 * 3.1 * style.DPI), round(2 * 2.3 * style.DPI))


def test_colours_repeat_after_the_last():
    pairs = dict(style.colours([str(place) for place in range(9)]))
    assert pairs["8"] == pairs["0"] and len(set(pairs.values())) == 8
