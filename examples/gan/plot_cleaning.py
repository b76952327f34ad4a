"""
Sort out bad drawings
=====================

People had twenty seconds a drawing. Some did not know the word, some did not finish, some drew something else, and a
generator learns that too. `cvkit.gan.clean` says which rows are worth training on, and why the others are not.
"""

import numpy as np

from cvkit import gan

# %%
# A quarter of these generated drawings are bad. We know which, and hide it from the rules.

known = gan.quickdraw.generate(["star", "fish", "umbrella", "house"], 80, dirty=0.25)
hidden = gan.datasets.ImageSet(known.images, known.labels, known.names, strokes=known.strokes)
train, test = hidden.split(test=0.2, seed=0)

# %%
# Some rules look at one drawing: its ink, its strokes, whether it is a copy. Two look at it through small
# classifiers, each trained on the folds that the drawing is not in: one asks what it is taken for, the other how
# lonely it is in its class. The test split is only looked at for copies; cleaning it would make the test easier.

report = gan.clean(train, test=test, density=0.05, folds=2, steps=60)
print(report.table())
print(len(report.leaks), "copies across the split")

# %%
# The first row shows what was kept, each further row what was dropped and why, the worst first.

figure_dropped = gan.dropped_sheet(train, report, columns=14)

# %%
# How well did that work? Here the truth is known.

bad = ~known.split(test=0.2, seed=0).train.recognized
dropped = np.isin(np.arange(len(train)), report.dropped)
print(f"bad ones dropped: {(bad & dropped).sum()} of {bad.sum()}")
print(f"good ones dropped: {(~bad & dropped).sum()} of {(~bad).sum()}")

# %%
# What is left is what `cvkit.gan.fit` should see: ``gan.fit(train[report.kept], ...)``.

clean = train[report.kept]
print(clean, clean.counts.tolist())
