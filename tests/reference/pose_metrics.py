"""Landmark measures, one joint at a time."""

import math


def pck(predicted, keypoints, visibility, lengths, threshold, strict):
    """Hits and labels a joint."""
    joints = len(keypoints[0])
    hits, counts = [0] * joints, [0] * joints
    for i in range(len(keypoints)):
        for j in range(joints):
            x, y = keypoints[i][j]
            if visibility[i][j] > 0 and math.isfinite(x) and math.isfinite(y):
                counts[j] += 1
                d = math.hypot(predicted[i][j][0] - x, predicted[i][j][1] - y) / lengths[i]
                hits[j] += d < threshold if strict else d <= threshold
    return hits, counts


def nme(predicted, keypoints, visibility, lengths):
    """The error of each image with a label."""
    errors = []
    for i in range(len(keypoints)):
        found = [
            math.hypot(predicted[i][j][0] - keypoints[i][j][0], predicted[i][j][1] - keypoints[i][j][1]) / lengths[i]
            for j in range(len(keypoints[i]))
            if visibility[i][j] > 0
        ]
        if found:
            errors.append(sum(found) / len(found))
    return errors


def oks(predicted, keypoints, visibility, area, sigmas):
    """Mean over labelled joints of exp(-d^2 / (2 area (2 sigma)^2))."""
    terms = [
        math.exp(-((p[0] - k[0]) ** 2 + (p[1] - k[1]) ** 2) / (2 * area * (2 * s) ** 2))
        for p, k, v, s in zip(predicted, keypoints, visibility, sigmas, strict=True)
        if v > 0
    ]
    return sum(terms) / len(terms) if terms else math.nan
