"""The report's style and script, as they stand in its one file. It loads nothing; its policy allows
just these two texts, by their hashes, so nothing stored could run or load even if it were not escaped."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--page:#f4f6f9;--card:#fff;--ink:#18212f;--soft:#5a6576;--line:#e1e6ed;
--good:#3b78d8;--bad:#d43d3d;--badsoft:#fdecec;--goodsoft:#e8f0fc;--code:#f6f8fa;--key:#7a3fb0;--text:#1b7040;--num:#a04d00}
@media screen and (prefers-color-scheme:dark){:root{--page:#11151c;--card:#1a202a;--ink:#e4e9f1;--soft:#98a4b5;
--line:#2c3543;--good:#5b96f0;--bad:#f06363;--badsoft:#3d2125;--goodsoft:#1e2e48;--code:#141922;--key:#c69bf0;
--text:#7fd1a0;--num:#f0b070}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;-webkit-print-color-adjust:exact;print-color-adjust:exact}
main{max-width:1180px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:15px;margin:0 0 12px}
p{margin:0}.soft,th,dt,footer,svg text{color:var(--soft)}
header{display:flex;justify-content:space-between;align-items:flex-end;gap:24px;flex-wrap:wrap;margin-bottom:24px}
header .when{text-align:right;font-size:13px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;margin-bottom:16px}
.tiles{display:grid;grid-template-columns:repeat(6,1fr);padding:0;overflow:hidden}
.tiles div{padding:16px 20px;box-shadow:-1px 0 var(--line),0 -1px var(--line)}
.tiles b{display:block;font-size:25px;line-height:1.25;font-weight:650;letter-spacing:-.02em;white-space:nowrap}
.tiles span{font-size:13px;color:var(--soft)}.tiles .alarm{color:var(--bad)}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:0 16px}
.scroll{overflow-x:auto}
svg{display:block;width:100%;height:auto}svg text{font-size:12px;fill:currentColor;font-variant-numeric:tabular-nums}
.grid{stroke:var(--line)}.good{fill:var(--good)}.bad{fill:var(--bad)}.rail{fill:var(--line)}
.legend{float:right;font-size:13px;color:var(--soft)}.legend i{display:inline-block;width:10px;height:10px;
border-radius:2px;margin:0 5px 0 14px}.legend .g{background:var(--good)}.legend .b{background:var(--bad)}
table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}
th{font-weight:500;font-size:13px;text-align:right;padding:0 0 8px 18px;white-space:nowrap}
td{padding:8px 0 8px 18px;border-top:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0;white-space:normal;overflow-wrap:anywhere;min-width:150px}
td svg{display:inline-block;width:64px;height:6px;margin-left:10px;vertical-align:2px}
a{color:var(--good);text-decoration:none}a:hover{text-decoration:underline}
#find{display:flex;gap:10px;align-items:center;margin-bottom:14px;flex-wrap:wrap}
#find input{flex:1;min-width:180px}#find input,#find select,#find button{font:inherit;font-size:14px;color:inherit;
background:var(--card);border:1px solid var(--line);border-radius:7px;padding:6px 11px}
:focus-visible{outline:2px solid var(--good);outline-offset:1px}
[hidden]{display:none!important}
summary,.head{display:grid;grid-template-columns:12px 60px 74px 160px 76px minmax(90px,1fr) minmax(90px,1.3fr);gap:12px;
align-items:baseline}
summary{padding:7px 0;font-size:14px;cursor:pointer;list-style:none}summary::-webkit-details-marker{display:none}
summary::before{content:"▸";color:var(--soft);font-size:12px}details[open]>summary::before{content:"▾"}
.head{font-size:13px;color:var(--soft);padding-bottom:8px}.head::before{content:""}
summary span{overflow:hidden;text-overflow:ellipsis;white-space:nowrap;unicode-bidi:isolate;
font-variant-numeric:tabular-nums}
details{border-top:1px solid var(--line)}details:target{background:var(--goodsoft)}
.num{text-align:right}.pill{justify-self:start;border-radius:99px;padding:1px 9px;font-size:12.5px;line-height:1.45;
background:var(--goodsoft);color:var(--good)}.fail .pill{background:var(--badsoft);color:var(--bad)}
.body{padding:4px 0 18px 28px;display:grid;grid-template-columns:1fr 1fr;gap:14px 20px}
.body>*{min-width:0}.wide{grid-column:1/-1}
h3{font-size:13px;margin:0 0 5px;font-weight:600}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(310px,1fr));gap:3px 20px;margin:0;font-size:13px}
dl div{display:flex;gap:8px}dt{flex:none}dd{margin:0;overflow-wrap:anywhere;min-width:0}
pre{margin:0;background:var(--code);border:1px solid var(--line);border-radius:7px;padding:10px 12px;max-height:420px;
overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext;
font:12.5px/1.5 ui-monospace,"Cascadia Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
pre b,pre i,pre u{font-weight:400;font-style:normal;text-decoration:none}
pre b{color:var(--key)}pre i{color:var(--text)}pre u{color:var(--num)}pre.err{background:var(--badsoft)}
footer{font-size:13px;text-align:center;margin-top:24px}
@media screen and (max-width:860px){.tiles{grid-template-columns:repeat(3,1fr)}.pair,.body{grid-template-columns:1fr}
summary,.head{grid-template-columns:16px 56px 72px 1fr 72px}summary span:nth-child(n+5){grid-column:2/-1;font-size:13px}
summary span:empty,.head span:nth-child(n+5){display:none}header .when{text-align:left}}
@media screen and (max-width:480px){.tiles{grid-template-columns:1fr 1fr}main{padding:20px 12px}}
@media print{body{background:#fff;font-size:11.5px}main{max-width:none;padding:0}#find,.open{display:none}
.card{padding:12px 14px;margin-bottom:10px}.card.tiles{padding:0}
.chart,.tiles,tr,summary{break-inside:avoid}h2{break-after:avoid}
.tiles b{font-size:18px}.tiles span,summary,.head,th,td,.legend,header .when{font-size:11px}.tiles div{padding:9px 12px}
pre{max-height:none}summary{padding:3px 0}td{padding-top:5px;padding-bottom:5px}.pill{font-size:10px}
summary,.head{grid-template-columns:0 40px 58px 128px 56px minmax(80px,1fr) minmax(80px,1.5fr);gap:9px}
summary::before{visibility:hidden}@page{margin:14mm}}
"""

SCRIPT = """
(function () {
  'use strict';
  var find = document.getElementById('find'), rows = [].slice.call(document.querySelectorAll('details.row'));
  var text = find.querySelector('input'), status = find.querySelector('select');
  var button = find.querySelector('button'), shown = document.getElementById('shown'), timer = 0;
  function apply() {
    var words = text.value.toLowerCase().split(/\\s+/), want = status.value, count = 0;
    rows.forEach(function (row) {
      var fits = !want || row.classList.contains(want);
      if (fits && text.value) {
        row.words = row.words || row.textContent.toLowerCase();
        fits = words.every(function (word) { return row.words.indexOf(word) >= 0; });
      }
      row.hidden = !fits;
      count += fits ? 1 : 0;
    });
    shown.textContent = count === rows.length ? rows.length + ' shown' : count + ' of ' + rows.length + ' shown';
  }
  function openTarget() {
    var row = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (row && row.tagName === 'DETAILS') { row.hidden = false; row.open = true; row.scrollIntoView(); }
  }
  text.addEventListener('input', function () { clearTimeout(timer); timer = setTimeout(apply, 120); });
  status.addEventListener('change', apply);
  button.addEventListener('click', function () {
    var open = button.textContent === 'Open all';
    rows.forEach(function (row) { row.open = open && !row.hidden; });
    button.textContent = open ? 'Close all' : 'Open all';
  });
  window.addEventListener('hashchange', openTarget);
  find.hidden = false;
  apply();
  openTarget();
})();
"""
