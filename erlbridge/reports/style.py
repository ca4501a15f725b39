"""How a report looks. Colours are variables, for light and dark; each text has a contrast of 4.5 or more."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --paper: #fff; --card: #f6f7f9; --ink: #1b1f24; --soft: #57606a; --rule: #d5dae0;
  --blue: #1f5fc4; --grey: #767c85; --faint: #a3abb5; --green: #19703a; --red: #b3261e; --greenish: #e3f5e8;
  --reddish: #fdeae8; --greenmark: #aee3bd; --redmark: #f8c4bf; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --card: #1d2126; --ink: #e6e9ec; --soft: #a3acb6;
  --rule: #363d45; --blue: #6ea8ff; --grey: #959ea8; --faint: #6a737d; --green: #6cd68b; --red: #ff9089;
  --greenish: #16291c; --reddish: #331b1a; --greenmark: #235c35; --redmark: #732d29; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 52rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h4 { font-size: .8rem; margin: 0; color: var(--soft); font-weight: 600; }
p { margin: .25rem 0; }
.about, .note, figcaption, footer { color: var(--soft); font-size: .875rem; }
.score { font-size: 2rem; margin: 1rem 0; line-height: 1.2; }
.was { color: var(--soft); }
.score .change { font-size: 1rem; white-space: nowrap; }
.change.better { color: var(--green); font-weight: 600; }
.change.worse { color: var(--red); font-weight: 600; }
.change.same { color: var(--soft); font-weight: 600; }
header dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .5rem; margin: 0; }
header dl div { background: var(--card); border-radius: .5rem; padding: .6rem .75rem; }
header dt { color: var(--soft); font-size: .8rem; }
header dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
header dd.more { font-size: .8rem; color: var(--soft); }
figure { margin: .5rem 0 1rem; }
figure .name { color: var(--ink); font-weight: 600; display: none; }
#spending ~ figure .name { display: inline; }
figure svg { display: block; width: 100%; height: auto; margin-top: .5rem; font-size: 12px; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1rem; font-size: .8rem; color: var(--soft); margin: .5rem 0 0; }
.legend span { display: inline-flex; align-items: center; gap: .4rem; }
.legend i { display: inline-block; flex: none; }
.legend .dot { width: .6rem; height: .6rem; border-radius: 50%; background: var(--blue); }
.legend .faint.dot, .legend .before { background: none; border: 1.5px solid var(--grey); }
.legend .better { background: var(--green); }
.legend .worse { background: var(--red); }
.legend .line { width: 1.1rem; border-top: 2px solid var(--blue); }
.legend .faint.line { border-top: 2px dashed var(--faint); }
.legend .level { width: 1.1rem; border-top: 1px dashed var(--grey); }
.narrow { display: none; }
@media (max-width: 560px) { .wide { display: none; } .narrow { display: block; } }
svg text { fill: var(--soft); font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--rule); stroke-width: .5; }
svg .axis { stroke: var(--soft); }
svg .level { stroke: var(--grey); stroke-dasharray: 4 4; }
svg .stage { stroke: var(--rule); }
svg text.stage { stroke: none; font-size: 11px; }
svg .line { fill: none; stroke: var(--blue); stroke-width: 2; stroke-linejoin: round; }
svg .line.faint { stroke: var(--faint); stroke-dasharray: 5 3; }
svg .dot { fill: var(--blue); stroke: var(--paper); }
svg .dot.faint { fill: var(--paper); stroke: var(--grey); stroke-width: 1.5; }
svg .dot.before { fill: var(--paper); stroke: var(--grey); stroke-width: 1.5; }
svg .dot.better { fill: var(--green); }
svg .dot.worse { fill: var(--red); }
svg .dot.same { fill: var(--grey); }
svg .pair { stroke-width: 2; }
svg .pair.better { stroke: var(--green); }
svg .pair.worse { stroke: var(--red); }
details { margin: .5rem 0; }
summary { cursor: pointer; padding: .25rem 0; }
:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
article { background: var(--card); border-radius: .5rem; padding: .75rem; margin: .5rem 0; }
article article { background: var(--paper); }
.scores { color: var(--soft); font-weight: 400; font-size: .875rem; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .75rem; }
.values { margin: .25rem 0 0; font-size: .875rem; }
.values dt { color: var(--soft); overflow-wrap: anywhere; }
.values dd { margin: 0 0 .4rem; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; }
.demos { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .5rem; align-items: start; }
.demos article { margin: 0; }
.diff { font: .85rem/1.5 ui-monospace, monospace; border: 1px solid var(--rule); border-radius: .5rem;
  overflow: hidden; background: var(--paper); }
.diff > div { display: flex; padding: 0 .5rem; }
.diff .sign { flex: none; width: 1.4em; color: var(--soft); user-select: none; }
.diff .text { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 0; min-height: 1.5em;
  unicode-bidi: plaintext; }
.diff .gone { background: var(--reddish); }
.diff .new { background: var(--greenish); }
.diff mark { color: inherit; border-radius: .2em; }
.diff .gone mark { background: var(--redmark); }
.diff .new mark { background: var(--greenmark); }
pre { font: .85rem/1.5 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; margin: .25rem 0; }
.spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.scrolled { overflow: auto; max-height: 24rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .75rem; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
footer { margin-top: 2.5rem; border-top: 1px solid var(--rule); padding-top: 1rem; overflow-wrap: anywhere; }
@media print { .narrow { display: none; } .wide { display: block; }
  details::details-content { content-visibility: visible; }
  article { break-inside: avoid; } }
"""
