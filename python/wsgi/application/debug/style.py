"""How the page for developers looks: light and dark, wide and narrow, without scripts."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root{color-scheme:light dark;--ink:#1d232b;--soft:#5d6875;--line:#dfe3e8;--paper:#fff;--ground:#f4f5f7;
--red:#b3261e;--blush:#fdecea;--mark:#f9c6c0;--link:#0b57a4}
@media(prefers-color-scheme:dark){:root{--ink:#e4e7eb;--soft:#98a2ae;--line:#333b45;--paper:#1c2128;--ground:#13171c;
--red:#ff8f84;--blush:#3a2020;--mark:#7a2e28;--link:#7cb7f5}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:70rem;padding:1.5rem 1rem 3rem;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
pre,code,ol.source,.place,th{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
font-size:13px}
h1,h2,h3{margin:0;line-height:1.25;overflow-wrap:anywhere}
h1{font-size:1.75rem;color:var(--red)}
h2{font-size:1.25rem;color:var(--red)}
h3{font-size:.8rem;color:var(--soft);margin:1rem 0 .25rem;text-transform:uppercase;letter-spacing:.05em}
.request{margin:0 0 .5rem;color:var(--soft);overflow-wrap:anywhere}
.request b{color:var(--ink)}
.error,.about,.plain{margin:0 0 1rem;padding:1.25rem;border:1px solid var(--line);border-radius:10px;
background:var(--paper)}
.about h2{color:var(--ink)}
.message{margin:.4rem 0 1rem;font-size:15px;white-space:pre-wrap;overflow-wrap:anywhere}
.link{margin:0 0 1rem;padding-left:1.25rem;color:var(--soft)}
.link::before{content:"↓ "}
details>summary{cursor:pointer;overflow-wrap:anywhere}
summary:focus-visible{outline:2px solid var(--link);outline-offset:2px;border-radius:4px}
.call,.library,.member{margin-top:.75rem;border:1px solid var(--line);border-radius:8px;overflow:hidden}
.call>summary,.library>summary,.member>summary{padding:.45rem .75rem}
.call[open]>summary{border-bottom:1px solid var(--line)}
.library{border-style:dashed;background:var(--ground)}
.library>summary{color:var(--soft)}
.library .call{margin:.5rem;background:var(--paper)}
.member{padding:0 .75rem}
.member>summary{margin:0 -.75rem}
.place{color:var(--soft);margin-left:.25rem}
.place i{font-style:normal;color:var(--link)}
@counter-style line{system:extends decimal;suffix:"  "}
ol.source{list-style:line;margin:0;padding:.5rem 0 .5rem 3.75rem;overflow-x:auto;tab-size:4;color:var(--soft)}
ol.source li{min-height:1.5em;padding:0 .75rem 0 .5rem;white-space:pre;width:max-content;min-width:100%}
ol.source .current{background:var(--blush);color:var(--ink);box-shadow:inset 3px 0 var(--red)}
.current::marker{color:var(--red);font-weight:bold}
mark{background:var(--mark);color:inherit;border-radius:2px}
.locals{border-top:1px solid var(--line)}
.locals>summary{padding:.35rem .75rem;color:var(--soft);font-size:.85rem}
.locals .scroll{padding:0 .75rem .5rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%}
tr+tr{border-top:1px solid var(--line)}
th,td{padding:.3rem .75rem .3rem 0;text-align:left;vertical-align:top;font-size:13px;line-height:1.5}
th{width:12rem;font-weight:600;overflow-wrap:anywhere}
td{overflow-wrap:anywhere}
td code{white-space:pre-wrap}
td em,.none,.left-out,footer{color:var(--soft)}
.none{margin:0;padding:.5rem .75rem}
.left-out{text-align:center;margin:.75rem 0 0}
.plain pre{overflow-x:auto;margin:.75rem 0 0}
footer{font-size:.85rem}
@media(max-width:40rem){body{padding:1rem .5rem}.error,.about,.plain{padding:.9rem .75rem}h1{font-size:1.35rem}
.place{display:block;margin:0}ol.source{padding-left:2.75rem}th{width:auto;min-width:8.5rem}td{width:100%}}
"""
