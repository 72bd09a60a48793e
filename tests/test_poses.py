"""Drawn poses stay within anatomy, are mirror-fair, and rarely run through themselves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from hmdiff.studio import capsules, hand_poses, poses

# A symmetric T-pose skeleton in SMPL's order, metres.
BODY = np.array([
    (0, 0, 0), (0.09, -0.05, 0), (-0.09, -0.05, 0), (0, 0.1, -0.02), (0.1, -0.45, 0),
    (-0.1, -0.45, 0), (0, 0.24, -0.01), (0.11, -0.86, -0.02), (-0.11, -0.86, -0.02),
    (0, 0.36, -0.02), (0.12, -0.91, 0.11), (-0.12, -0.91, 0.11), (0, 0.53, 0), (0.04, 0.45, 0),
    (-0.04, 0.45, 0), (0, 0.62, 0.03), (0.18, 0.45, 0), (-0.18, 0.45, 0), (0.45, 0.45, 0),
    (-0.45, 0.45, 0), (0.7, 0.45, 0), (-0.7, 0.45, 0), (0.8, 0.45, 0), (-0.8, 0.45, 0),
])  # fmt: skip
# A flat right hand in MANO's order: fingers along -x, palm down, thumb towards +z.
HAND = np.array([
    (0, 0, 0), (-0.09, 0, 0.025), (-0.122, 0, 0.03), (-0.146, 0, 0.033), (-0.09, 0, 0.002),
    (-0.126, 0, 0.002), (-0.151, 0, 0.002), (-0.08, 0, -0.04), (-0.1, 0, -0.048),
    (-0.116, 0, -0.054), (-0.088, 0, -0.02), (-0.12, 0, -0.025), (-0.145, 0, -0.03),
    (-0.035, -0.005, 0.025), (-0.06, -0.01, 0.048), (-0.085, -0.015, 0.06),
])  # fmt: skip
SWAP = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22]
points = hnp.arrays(float, (4, 3), elements=st.floats(-1, 1, width=32))


def stance(**angles: float) -> np.ndarray:
    """Joints (24 x 3) of the upright figure with these angles (degrees)."""
    return capsules.pose_joints(BODY, poses.to_rotvec(poses.archetype(angles)), poses.PARENTS)


def bend(joints: np.ndarray, a: int, b: int, c: int) -> float:
    """Degrees by which the chain a, b, c is bent at b."""
    u, v = joints[b] - joints[a], joints[c] - joints[b]
    return np.rad2deg(np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v)))


@settings(max_examples=60, deadline=None)
@given(points)
def test_segment_distance_is_the_minimum_over_both_segments(ends):
    p, q, r, s = ends
    if min(np.linalg.norm(q - p), np.linalg.norm(s - r)) < 1e-3:
        return

    on_first = p + np.linspace(0, 1, 4001)[:, None] * (q - p)
    along = np.clip((on_first - r) @ (s - r) / ((s - r) @ (s - r)), 0, 1)
    best = np.linalg.norm(on_first - r - along[:, None] * (s - r), axis=1).min()
    got = capsules.segment_distance(p[None], q[None], r[None], s[None])[0]
    assert best - 1e-3 < got < best + 1e-6


def test_forward_kinematics_turn_everything_below_a_joint():
    turn = np.zeros((24, 3))
    turn[3] = (0, 0, np.pi / 2)
    posed = capsules.pose_joints(BODY, turn, poses.PARENTS)
    expected = BODY[3] + (BODY[20] - BODY[3]) @ Rotation.from_rotvec(turn[3]).as_matrix().T
    assert np.allclose(posed[20], expected)
    assert np.allclose(posed[4], BODY[4])


def test_zero_angles_are_the_upright_stance_with_hanging_arms():
    joints = stance()
    assert np.allclose(joints[[20, 21]] - joints[[16, 17]], [[0, -0.52, 0]] * 2, atol=1e-9)
    assert np.allclose(joints[7], BODY[7])


@pytest.mark.parametrize(
    ("angles", "joint", "start", "axis", "sign"),
    [
        ({"l_hip": 80}, 4, 1, 2, 1), ({"l_knee": 80}, 7, 4, 2, -1), ({"l_spread": 40}, 4, 1, 0, 1),
        ({"r_spread": 40}, 5, 2, 0, -1), ({"bend": 60}, 12, 0, 2, 1), ({"raise": 80}, 21, 17, 2, 1),
        ({"elbow": 80}, 20, 18, 2, 1), ({"elbow": 80, "inward": 80}, 20, 18, 0, -1),
        ({"elbow": 80, "inward": 80}, 21, 19, 0, 1), ({"r_abduct": 80}, 21, 17, 0, -1),
    ],
)  # fmt: skip
def test_angles_turn_limbs_the_way_their_names_say(angles, joint, start, axis, sign):
    joints = stance(**angles)
    along = joints[joint] - joints[start]
    assert sign * along[axis] / np.linalg.norm(along) > 0.45


def test_hinges_bend_by_the_angle_given():
    joints = stance(l_knee=70, r_elbow=100)
    assert abs(bend(joints, 1, 4, 7) - bend(BODY, 1, 4, 7) - 70) < 3
    assert abs(bend(joints, 17, 19, 21) - 100) < 1e-6


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_a_mirrored_pose_is_the_mirror_image(seed):
    angles = poses.draw_angles(np.random.default_rng(seed))
    mirrored = poses.mirror_angles(angles)
    assert np.allclose(poses.mirror_angles(mirrored), angles)
    here, there = (
        capsules.pose_joints(BODY, poses.to_rotvec(a), poses.PARENTS) for a in (angles, mirrored)
    )
    assert np.allclose(there, here[SWAP] * [-1, 1, 1], atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_drawn_angles_respect_the_limits_of_the_joints(seed):
    rng = np.random.default_rng(seed)
    low, high, _ = np.array(list(poses.LIMITS.values())).T
    angles = poses.draw_angles(rng)
    assert ((angles >= low) & (angles <= high)).all()
    fingers = hand_poses.draw_angles(rng)
    assert (fingers[:12] >= -22).all()
    assert (fingers[:12] <= 112).all()


def test_every_archetype_lies_within_the_limits():
    low, high, _ = np.array(list(poses.LIMITS.values())).T
    for name, values in (poses.LEGS | poses.ARMS).items():
        angles = poses.archetype(values)
        assert ((angles >= low) & (angles <= high)).all(), name


def test_an_unknown_angle_is_named():
    with pytest.raises(ValueError, match="'knees' is no angle"):
        poses.archetype({"knees": 3})


def test_self_penetration_is_rare_and_less_so_without_the_check():
    rng = np.random.default_rng(3)
    drawn = [poses.draw_body_pose(rng, BODY) for _ in range(150)]
    raw = [poses.to_rotvec(poses.draw_angles(rng)) for _ in range(150)]

    def share(rotvecs: list) -> float:
        depth = [
            capsules.overlap(capsules.pose_joints(BODY, r, poses.PARENTS), poses.CAPSULES)
            for r in rotvecs
        ]
        return np.mean(np.array(depth) > poses.ALLOWED_M)

    assert share(drawn) <= 0.02
    assert share(raw) > 0.05


def test_fists_close_and_open_hands_do_not():
    def reach(name: str) -> np.ndarray:
        rotvec = hand_poses.to_rotvec(hand_poses.archetype(name), HAND)
        return capsules.pose_joints(HAND, rotvec, hand_poses.PARENTS)

    fist, flat, point = reach("fist"), reach("flat"), reach("point")
    tips = [3, 6, 9, 12]
    assert (np.linalg.norm(fist[tips] - HAND[0], axis=1) < 0.11).all()
    assert (fist[tips, 1] < -0.02).all()  # into the palm, which looks down
    assert np.allclose(flat[tips], HAND[tips], atol=0.012)
    assert np.linalg.norm(point[3] - HAND[0]) > 0.14 > np.linalg.norm(point[6] - HAND[0])


def test_the_opposed_thumb_comes_before_the_palm():
    rotvec = hand_poses.to_rotvec(hand_poses.archetype("grasp a cylinder"), HAND)
    thumb = capsules.pose_joints(HAND, rotvec, hand_poses.PARENTS)[15]
    assert thumb[1] < HAND[15, 1] - 0.01


def test_fingers_seldom_pass_through_each_other():
    rng = np.random.default_rng(4)
    depth = [
        capsules.overlap(
            capsules.pose_joints(HAND, hand_poses.draw_hand_pose(rng, HAND), hand_poses.PARENTS),
            hand_poses.CAPSULES,
        )
        for _ in range(100)
    ]
    assert np.mean(np.array(depth) > hand_poses.ALLOWED_M) <= 0.03


def test_poses_vary_widely():
    rng = np.random.default_rng(0)
    wrists = np.stack(
        [
            capsules.pose_joints(BODY, poses.draw_body_pose(rng, BODY), poses.PARENTS)[[20, 21, 7]]
            for _ in range(100)
        ]
    )
    assert (wrists.std(0).max(1) > 0.2).all()
