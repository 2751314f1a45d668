"""Pictures and films."""

from __future__ import annotations

from catalogue.describing import Group, Workload

_FFMPEG = """
echo begun
ffmpeg -v error -f lavfi -i testsrc2=size=640x360:rate=25:duration=8 -c:v libx264 -preset medium -threads 3 \\
    -bitexact /tmp/film.mp4
sha256sum /tmp/film.mp4
"""

_MAGICK = """
echo begun
convert -size 1200x1200 -seed 7 plasma:fractal -blur 0x8 -swirl 180 -paint 4 -charcoal 2 rgb:/tmp/picture.rgb
sha256sum /tmp/picture.rgb
"""

_POVRAY = """
cat >/tmp/scene.pov <<END
#version 3.7;
global_settings { assumed_gamma 1 radiosity { count 60 } }
camera { location <0, 3, -9> look_at 0 }
light_source { <6, 9, -7> rgb 1 area_light <2,0,0>, <0,0,2>, 5, 5 adaptive 1 }
plane { y, -1 pigment { checker rgb .9 rgb .2 } finish { reflection .2 } }
#for (n, 0, 24)
    sphere { <mod(n, 5) * 2 - 4, 0, floor(n / 5) * 2 - 3>, .9 pigment { rgb <n / 24, .5, 1 - n / 24> }
        finish { reflection .3 specular .5 } }
#end
END
echo begun
povray +I/tmp/scene.pov +O/tmp/scene.ppm +FP +W320 +H240 +A0.2 +WT2 -D 2>/dev/null
tail -c +16 /tmp/scene.ppm | wc -c
"""

GROUP = Group(
    title="Pictures and films",
    workloads=(
        Workload(
            name="ffmpeg",
            program="FFmpeg",
            does="encodes 200 frames as H.264, with its threads",
            packages=("rav1e", "ffmpeg"),
            versioned="ffmpeg",
            words=("bash", "-c", _FFMPEG),
            progress="begun",
            settle_s=0.6,
        ),
        Workload(
            name="imagemagick",
            program="ImageMagick",
            does="filters a picture, with its threads",
            packages=("imagemagick",),
            words=("bash", "-c", _MAGICK),
            progress="begun",
            settle_s=1.5,
        ),
        Workload(
            name="povray",
            program="POV-Ray",
            does="renders a scene with two threads",
            packages=("povray", "povray-includes"),
            words=("bash", "-c", _POVRAY),
            progress="begun",
            settle_s=2.0,
        ),
    ),
)
