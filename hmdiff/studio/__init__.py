"""The capture studio: an open body and hand, photographed in the layouts of real data sets.

`anny_bake` makes the models; `takes` plans, `shoots` poses and points the camera, `photograph`
renders, `layouts` writes, and `capture` runs it all.
"""
