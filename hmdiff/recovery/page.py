"""The page of one recovered person or hand: one HTML file that needs nothing but a browser.

Pictures are embedded, plotly's script is embedded once, and a content security policy forbids the
page every network request, so that it opens the same in ten years and on a machine without a net.
"""

import base64
import io

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from ..viewer import mesh3d
from .photo import FOCAL_PER_SIDE
from .surfaces import Surface

WARNING = (
    "The networks were trained on synthetic, rendered images. A real photograph is out of their "
    "domain: the mesh can be wrong in ways that its uncertainty does not show."
)
CAMERA = (
    f"The camera's focal length is assumed ({FOCAL_PER_SIDE:g} times the longer side of the "
    "picture), so the distance from the camera is a guess; the mesh itself does not depend on it."
)
PICTURE_PX = 1200  # longer side of the overlay in the page

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data: blob:;
 style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; worker-src blob:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ facts.picture }}: recovered {{ facts.subject }}</title>
<style>
:root { color-scheme: light; --ink: #1d2327; --soft: #59636b; --line: #d9dee2; }
* { box-sizing: border-box; }
body { max-width: 72rem; margin: 0 auto; padding: 1rem; color: var(--ink);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; }
p { max-width: 50rem; }
.warning { border-left: 5px solid #d55e00; background: #fdf3ec; padding: .6rem 1rem; }
.pair { display: grid; gap: 1rem; align-items: start;
        grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; }
figure img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px; }
.framed { position: relative; overflow: hidden; line-height: 0; }
.framed span { position: absolute; border: 2px solid #e69f00; }
figcaption, .soft { color: var(--soft); font-size: .9rem; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
</style>
</head>
<body>
<h1>{{ facts.picture }}: recovered {{ facts.subject }}</h1>
<div class="warning">
<p><strong>Out of domain.</strong> {{ warning }}</p>
<p><strong>Assumed camera.</strong> {{ camera }}</p>
{% if not facts.box_given %}<p><strong>Assumed box.</strong> No box was given, so the whole picture
was taken to show one {{ facts.subject }}.</p>{% endif %}
</div>
<p>The mesh follows the mean of the poses that the picture leaves open. Its uncertainty is how far
{{ facts.hypotheses }} hypotheses (seed {{ facts.seed }}) stray that each follow one of them:
{{ facts.spread_median_mm }} mm at the median vertex; the brightest colour stands for
{{ facts.spread_brightest_mm }} mm or more, the darkest for none. It is measured with all of them
moved to one root, so about the pelvis (a hand's wrist) it is small whatever the picture shows.</p>
<div class="pair">
<figure><div class="framed"><img src="{{ overlay }}" alt="the mesh over the picture">
<span style="{{ frame }}"></span></div>
<figcaption>Over the picture; framed is the box {{ facts.box_px | map("round", 1) | join(", ") }}
(x, y, width, height in pixels).</figcaption></figure>
<figure>{{ plot }}<figcaption>Drag to turn, scroll to zoom; colour is uncertainty.</figcaption>
</figure>
<figure><img src="{{ side }}" alt="the mesh from its left">
<figcaption>From the side; the camera stands to the left.</figcaption></figure>
<figure><img src="{{ top }}" alt="the mesh from above">
<figcaption>From above; the camera stands at the bottom.</figcaption></figure>
</div>
<h2>Joints</h2>
<table>
<thead><tr><th>joint</th><th>x, m</th><th>y, m</th><th>z, m</th><th>pixel</th><th>spread, mm</th>
</tr></thead>
<tbody>
{% for joint in facts.joints -%}
<tr><td>{{ joint.name }}</td>
{%- for value in joint.position_m %}<td>{{ "%.3f" | format(value) }}</td>{% endfor -%}
<td>{{ joint.pixel | map("round") | map("int") | join(", ") }}</td>
<td>{{ "%.0f" | format(joint.spread_mm) }}</td></tr>
{% endfor %}
</tbody>
</table>
<p class="soft">Relative to the root joint; x right, y down, z away from the camera. Beside this
page: the picture at full size, the mesh as GLB, OBJ and PLY, all hypotheses, and these numbers.</p>
</body>
</html>
"""


def frame(facts: dict) -> str:
    """Where the box lies over its picture, in shares of it, as CSS."""
    x, y, w, h = facts["box_px"]
    sides = {"left": x, "top": y, "width": w, "height": h}
    whole = [facts["width_px"], facts["height_px"]] * 2
    shares = zip(sides.items(), whole, strict=True)
    return "; ".join(f"{name}: {100 * value / of:.2f}%" for (name, value), of in shares)


def make(facts: dict, surface: Surface, pictures: dict[str, np.ndarray]) -> str:
    """The page.

    Args:
        facts: what joints.json says (delivery.describe).
        pictures: overlay, side and top, each H x W x 3, uint8.
    """
    plot = mesh3d(
        1000 * surface.vertices_m, surface.faces, intensity=surface.spread_mm, unit="spread, mm"
    )
    plot.update_traces(cmin=0, cmax=facts["spread_brightest_mm"])
    script = plot.to_html(
        full_html=False,
        include_plotlyjs=True,
        include_mathjax=False,
        div_id="mesh",
        config={"displaylogo": False, "responsive": True},
    )
    small = Image.fromarray(pictures["overlay"])
    small.thumbnail((PICTURE_PX, PICTURE_PX))
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return template.from_string(PAGE).render(
        facts=facts,
        frame=frame(facts),
        warning=WARNING,
        camera=CAMERA,
        plot=Markup(script),
        overlay=embedded(small, "jpeg"),
        side=embedded(Image.fromarray(pictures["side"]), "png"),
        top=embedded(Image.fromarray(pictures["top"]), "png"),
    )


def encoded(picture: Image.Image, kind: str) -> bytes:
    """A picture as a file's bytes."""
    data = io.BytesIO()
    picture.save(data, kind)
    return data.getvalue()


def embedded(picture: Image.Image, kind: str) -> str:
    """A picture as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(encoded(picture, kind)).decode()}"
