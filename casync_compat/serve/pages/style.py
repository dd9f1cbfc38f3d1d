"""The stylesheet. Colours have a contrast of 4.5 and more, in light and in dark."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = b"""\
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --soft: #57606a; --line: #d0d7de; --link: #0550ae;
  --own: #0969da; --shared: #9a6700; --fill: 27, 107, 184; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --soft: #9ea7b3; --line: #3d444d;
  --link: #79c0ff; --own: #58a6ff; --shared: #d29922; } }
body { font: 1rem/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  padding: 0 1rem 3rem; max-width: 68rem; }
a { color: var(--link); }
a:focus-visible, main:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -99rem; padding: .5rem 1rem; background: var(--paper); }
.skip:focus { left: 1rem; top: .5rem; }
nav ol { list-style: none; display: flex; flex-wrap: wrap; padding: 0; margin: 1rem 0 0; }
nav li + li::before { content: "/"; color: var(--soft); padding: 0 .5rem; }
nav a, th, td { overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .75rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
p { max-width: 45rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; }
th, td { text-align: left; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { font-weight: 600; }
tbody th { font-weight: 400; }
td.number + td.word, th.number + th.word { padding-left: 1rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.word { overflow-wrap: normal; }
dt { color: var(--soft); } dd { margin: 0 0 .5rem; overflow-wrap: anywhere; }
@media (max-width: 40rem) { .minor { display: none; } }
svg { width: 100%; height: auto; }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink); }
svg .own { fill: var(--own); } svg .shared { fill: var(--shared); }
"""
