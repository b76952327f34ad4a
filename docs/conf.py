"""Sphinx configuration. Builds without network: the inventories beside this file are written by hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the gallery's networks are small: threads would wait for one another

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))

import inventory

import cvkit

project = "cvkit"
copyright = "2026, The cvkit developers"
author = "The cvkit developers"
version = release = cvkit.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "faults",
]
exclude_patterns = ["_build", "_templates", "benchmarks/*.inc"]
templates_path = ["_templates"]
default_role = "code"
nitpicky = True
# Names that have no page of their own anywhere: type variables and aliases that autodoc meets in bases and attributes.
nitpick_ignore_regex = [
    (r"py:(class|obj)", r"(optional|default .*|.*of shape.*|array_like|callable)"),
]

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"  # the numpydoc sections carry the types, with shapes and ranges
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

intersphinx_mapping = inventory.build(HERE / "inventories", HERE / "_build" / "inventories")
intersphinx_timeout = 1

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # the changelog is included below a page's own heading

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "image_scrapers": ("gallery.scraper",),  # a path, since Sphinx stores its configuration
    "reset_modules": (),
    "capture_repr": (),
    "abort_on_example_error": True,
    "min_reported_time": 5,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "copyfile_regex": r".*GALLERY_HEADER\.rst",
}

html_theme = "pydata_sphinx_theme"
html_title = f"cvkit {release}"
html_static_path: list[str] = []
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}
