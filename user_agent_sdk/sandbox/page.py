"""The sandbox's page: one document without any other file, and the two addresses that feed it.

Its policy allows just this style and this script, by their hashes; the script puts text into the page
and nothing else, so nothing that a task holds can run or load.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from typing import Any

from ..logs import escape
from .engine import Engine
from .exchange import Reply, Request
from .server import Sandbox
from .tasks import Execution, describe

SHOWN_EXECUTIONS = 200
SHOWN_CHARS = 200_000  # of an input, an output, or one attempt's logs
SHOWN_LINES = 1000  # of one attempt's logs, the last ones
_STATES = {"SCHEDULED": "QUEUED", "IN_PROGRESS": "RUNNING"}

STYLE = """
:root{color-scheme:light dark;--page:#f4f6f9;--card:#fff;--ink:#18212f;--soft:#5a6576;--line:#e1e6ed;--good:#2860b8;
--goodsoft:#e8f0fc;--done:#1b7040;--donesoft:#e4f4ea;--bad:#c93232;--badsoft:#fdecec;--wait:#8a5a00;--waitsoft:#fdf3dc;
--code:#f6f8fa;--key:#7a3fb0;--text:#1b7040;--num:#a04d00}
@media(prefers-color-scheme:dark){:root{--page:#11151c;--card:#1a202a;--ink:#e4e9f1;--soft:#98a4b5;--line:#2c3543;
--good:#6ea3f5;--goodsoft:#1e2e48;--done:#7fd1a0;--donesoft:#1b3527;--bad:#f47c7c;--badsoft:#3d2125;--wait:#e5b45c;
--waitsoft:#3a2f18;--code:#141922;--key:#c69bf0;--text:#7fd1a0;--num:#f0b070}}
*{box-sizing:border-box}[hidden]{display:none!important}
body{margin:0;background:var(--page);color:var(--ink);font:14.5px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif}
main{max-width:1440px;margin:0 auto;padding:22px 20px 60px;display:grid;gap:16px;align-items:start;
grid-template-columns:minmax(300px,380px) minmax(0,1fr)}
header{grid-column:1/-1;display:flex;gap:14px;align-items:baseline;flex-wrap:wrap}
h1{font-size:23px;margin:0;letter-spacing:-.01em}h2{font-size:15px;margin:0 0 12px}
h3{font-size:13px;margin:16px 0 6px;font-weight:600}p{margin:0}.soft,th,dt,label,.when{color:var(--soft)}
#link{margin-left:auto;font-size:13px}#link::before{content:"●";margin-right:7px;color:var(--done)}
#link.lost,#link.lost::before{color:var(--bad)}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px 18px;min-width:0}
.column{display:grid;gap:16px;min-width:0}
table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}
th{font-weight:500;font-size:13px;text-align:right;padding:0 0 6px 12px}
td{padding:7px 0 7px 12px;border-top:1px solid var(--line);text-align:right;vertical-align:top}
th:first-child,td:first-child{text-align:left;padding-left:0;overflow-wrap:anywhere;unicode-bidi:isolate}
td small{display:block;color:var(--soft);font-size:12.5px}
label{display:block;font-size:13px;margin-bottom:10px}.pair{display:grid;grid-template-columns:1fr 1fr;gap:0 12px}
input,textarea,button{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:7px;
padding:6px 10px}label input,textarea{display:block;width:100%;margin-top:3px;color:var(--ink)}
textarea{resize:vertical;min-height:112px}
button{cursor:pointer}.main{background:var(--good);border-color:var(--good);color:var(--card);font-weight:600}
:focus-visible{outline:2px solid var(--good);outline-offset:1px}
.error{color:var(--bad);overflow-wrap:anywhere;margin-top:8px;font-size:13.5px;unicode-bidi:isolate}
.row,.head{display:grid;grid-template-columns:104px minmax(80px,1fr) 80px 74px 84px;gap:12px;align-items:baseline;
font-variant-numeric:tabular-nums}.head{font-size:13px;color:var(--soft);padding:0 8px 6px}
.row{padding:7px 8px;border-top:1px solid var(--line);color:inherit;text-decoration:none}
.row:hover{background:var(--code)}.row.on{background:var(--code);box-shadow:inset 3px 0 var(--good)}
.row span{white-space:nowrap;overflow:hidden;text-overflow:ellipsis;unicode-bidi:isolate}
.num{text-align:right}#rows{max-height:46vh;overflow:auto}
.pill{justify-self:start;border-radius:99px;padding:1px 10px;font-size:12.5px;background:var(--waitsoft);
color:var(--wait)}.RUNNING{background:var(--goodsoft);color:var(--good)}
.COMPLETED{background:var(--donesoft);color:var(--done)}
.FAILED,.FAILED_WITH_TERMINAL_ERROR,.TIMED_OUT,.TERMINATED,.CANCELED{background:var(--badsoft);color:var(--bad)}
.title{display:flex;gap:12px;align-items:baseline;margin-bottom:10px;flex-wrap:wrap}.title h2{margin:0;
overflow-wrap:anywhere;unicode-bidi:isolate}.title button{margin-left:auto;font-size:13px;padding:3px 11px}
dl{display:flex;flex-wrap:wrap;gap:2px 26px;margin:0;font-size:13.5px}
dl div{display:flex;gap:8px}dt{flex:none}dd{margin:0;overflow-wrap:anywhere;min-width:0;unicode-bidi:isolate}
.both{display:grid;grid-template-columns:1fr 1fr;gap:0 16px}.both>*{min-width:0}
.attempt{border-top:1px solid var(--line);margin-top:16px;padding-top:14px}
pre,textarea,code{font:12.5px/1.5 ui-monospace,"Cascadia Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
pre{margin:0;background:var(--code);border:1px solid var(--line);border-radius:7px;padding:9px 12px;max-height:340px;
overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext}
code{display:block;margin-top:6px;overflow-wrap:anywhere;user-select:all}
pre b,pre i,pre u{font-weight:400;font-style:normal;text-decoration:none}
pre b{color:var(--key)}pre i{color:var(--text);unicode-bidi:isolate}pre u{color:var(--num)}
@media(max-width:960px){main{grid-template-columns:minmax(0,1fr)}}
@media(max-width:620px){.both{grid-template-columns:1fr}.row,.head{grid-template-columns:100px minmax(0,1fr) 74px}
.row span:nth-child(n+4),.head span:nth-child(n+4){display:none}main{padding:14px 10px}}
"""

BODY = """<main><header><h1>Sandbox</h1><span class="soft" id="address"></span><span class="soft" id="link"
role="status">live</span></header>
<div class="column"><section class="card"><h2>Agents</h2>
<table id="agents" hidden><thead><tr><th>Agent<th>Queued<th>Running</thead><tbody></tbody></table>
<div id="none"><p class="soft">No worker has polled yet. Start one:</p><!--commands--></div></section>
<section class="card"><h2>Submit a task</h2><form id="form">
<label>Agent<input id="agent" list="known" required autocomplete="off" spellcheck="false" placeholder="its id"></label>
<datalist id="known"></datalist>
<label>Input, a JSON object<textarea id="input" spellcheck="false">{}</textarea></label>
<div class="pair"><label>Retries<input id="retries" type="number" min="0" step="1" value="2" required></label>
<label>Response timeout (s)<input id="timeout" type="number" min="0.1" step="any" value="3600" required></label></div>
<button class="main">Submit</button><p class="error" id="wrong" role="alert" hidden></p></form></section></div>
<div class="column"><section class="card"><h2>Executions</h2>
<div class="head" id="head" hidden><span>Status</span><span>Agent</span><span class="num">Attempts</span>
<span class="num">Took</span><span class="num">Submitted</span></div><div id="rows"></div>
<p class="soft" id="empty">Nothing was submitted yet.</p></section>
<section class="card" id="detail" hidden></section></div></main>
"""

SCRIPT = r"""'use strict';
const $ = id => document.getElementById(id), rows = new Map(), two = n => String(n).padStart(2, '0');
let shown = '', lease = null, now = 0, misses = 0, timer = 0, busy = false, again = false, known = '';
const make = (tag, kind, text, ...inner) => {
  const made = document.createElement(tag);
  made.className = kind;
  if (text !== null) made.textContent = text;
  made.append(...inner);
  return made;
};
const set = (node, text) => { if (node.textContent !== String(text)) node.textContent = text; };
const clock = (ms, d = new Date(ms)) => [d.getHours(), d.getMinutes(), d.getSeconds()].map(two).join(':');
const span = (ms, s = Math.floor(ms / 1000)) => ms < 1e3 ? Math.max(0, Math.round(ms)) + ' ms'
  : ms < 1e4 ? (ms / 1e3).toFixed(1) + ' s' : s < 60 ? s + ' s'
  : s < 3600 ? Math.floor(s / 60) + ' m ' + two(s % 60) + ' s'
  : Math.floor(s / 3600) + ' h ' + two(Math.floor(s / 60) % 60) + ' m';
const named = status => status.toLowerCase().replace(/_/g, ' ');
const pill = status => make('span', 'pill ' + status, named(status));
const selected = () => (/^#[0-9a-f-]{36}$/.exec(location.hash) || [''])[0].slice(1);
const part = (title, content) => make('div', '', null, make('h3', '', title), content);
const facts = pairs => make('dl', '', null, ...pairs.filter(pair => pair[1]).map(([name, value]) =>
  make('div', '', null, make('dt', '', name), make('dd', '', value))));
async function fetched(path, options) {
  const reply = await fetch(path, { cache: 'no-store', ...options }), answer = await reply.json();
  if (!reply.ok) throw Object.assign(new Error(answer.message || 'HTTP ' + reply.status), { answered: true });
  return answer;
}
function json(text) {  // coloured as it stands: nothing is parsed, so no number is rounded
  const box = make('pre', '', null);
  const token = /("(?:\\.|[^"\\])*")(\s*:)?|-?\d[\d.eE+-]*|\b(?:true|false|null)\b/g;
  let from = 0;
  for (const found of text.matchAll(token)) {
    const word = found[1] || found[0];
    box.append(text.slice(from, found.index), make(found[2] ? 'b' : found[1] ? 'i' : 'u', '', word));
    from = found.index + word.length;
  }
  box.append(text.slice(from));
  return box;
}
function showAgents(agents) {
  $('agents').hidden = !agents.length;
  $('none').hidden = agents.some(agent => agent.polledTime);
  $('agents').tBodies[0].replaceChildren(...agents.map(agent => {
    const ago = now - agent.polledTime, seen = !agent.polledTime ? 'never polled'
      : (agent.workerId || 'a worker') + (ago < 10000 ? ' is polling' : ' polled ' + span(ago) + ' ago');
    const id = agent.agentId + (agent.domain ? ' (' + agent.domain + ')' : '');
    const name = make('td', '', id, make('small', '', seen));
    return make('tr', '', null, name, make('td', '', agent.queued), make('td', '', agent.running));
  }));
  const ids = [...new Set(agents.map(agent => agent.agentId))];
  if (known === (known = ids.join('\n'))) return;
  $('known').replaceChildren(...ids.map(id => Object.assign(make('option', '', null), { value: id })));
  if (!$('agent').value && ids.length === 1) $('agent').value = ids[0];
}
function showRows(executions) {
  const seen = new Set(executions.map(one => one.id));
  $('empty').hidden = !($('head').hidden = !seen.size);
  rows.forEach((row, id) => { if (!seen.has(id)) { row.remove(); rows.delete(id); } });
  executions.forEach((one, index) => {
    let row = rows.get(one.id);
    if (!row) {
      row = make('a', 'row', null, pill(''), ...['', 'num', 'num', 'num'].map(kind => make('span', kind, '')));
      row.href = '#' + one.id;
      rows.set(one.id, row);
    }
    const took = one.startTime ? span((one.endTime || now) - one.startTime) : '';
    const texts = [named(one.state), one.agentId, one.attempts, took, clock(one.createdTime)];
    texts.forEach((text, n) => set(row.children[n], text));
    row.children[0].className = 'pill ' + one.state;
    row.title = one.reason || '';
    row.classList.toggle('on', selected() === one.id);
    if ($('rows').children[index] !== row) $('rows').insertBefore(row, $('rows').children[index] || null);
  });
}
function attempt(one, number) {
  const left = make('span', 'soft', ''), box = make('div', 'attempt', null,
    make('div', 'title', null, make('h2', '', 'Attempt ' + number), pill(one.status), left), facts([
      ['Task', one.taskId], ['Worker', one.workerId], ['Polls', String(one.pollCount)],
      ['Queued for', one.startTime && span(one.startTime - one.scheduledTime)],
      ['Ran for', one.startTime && one.endTime && span(one.endTime - one.startTime)]]));
  if (one.leaseLeftSeconds !== null) lease = left;
  if (one.reason) box.append(make('p', 'error', one.reason));
  if (one.logs.length) box.append(part('Logs', make('pre', '', null,
    ...one.logs.flatMap(line => [make('span', 'when', clock(line.createdTime) + '  '), line.log + '\n']))));
  if (one.output) box.append(part('Output of this attempt', json(one.output)));
  return box;
}
function showDetail(one) {
  const reuse = make('button', '', 'Submit again\u2026'), when = ms => ms && new Date(ms).toLocaleString();
  reuse.onclick = () => {
    [$('agent').value, $('input').value, $('retries').value] = [one.agentId, one.input, one.retries];
    $('timeout').value = one.responseTimeoutSeconds;
    $('input').focus();
  };
  reuse.disabled = one.cut;
  lease = null;
  $('detail').replaceChildren(
    make('div', 'title', null, make('h2', '', one.agentId), pill(one.state), reuse),
    facts([['Id', one.id], ['Submitted', when(one.createdTime)], ['Ended', when(one.endTime)], ['Domain', one.domain],
      ['Retries', String(one.retries)], ['Response timeout', one.responseTimeoutSeconds + ' s']]),
    make('div', 'both', null, part('Input', json(one.input)),
      part('Output', one.endTime ? json(one.output) : make('p', 'soft', 'not yet'))),
    ...one.attempts.map((each, index) => attempt(each, index + 1)).reverse());
}
async function refresh() {
  clearTimeout(timer);
  again = busy;
  if (document.hidden || busy) return;
  busy = true;
  try {
    const told = await fetched('/sandbox/overview'), id = selected();
    now = told.now;
    showAgents(told.agents);
    showRows(told.executions);
    const { leaseLeft, ...rest } = told.executions.find(one => one.id === id) || { id };
    const latest = JSON.stringify(rest), lost = failure => { if (!failure.answered) throw failure; };
    if (latest !== shown) {
      const one = id && await fetched('/sandbox/detail/' + id).catch(lost);
      if (one) showDetail(one);
      $('detail').hidden = !one;
      shown = latest;
    }
    if (lease) set(lease, leaseLeft == null ? '' : 'lease: ' + span(leaseLeft * 1000) + ' left');
    misses = 0;
  } catch (failure) { misses += 1; }
  busy = false;
  $('link').classList.toggle('lost', misses > 0);
  set($('link'), misses ? 'the sandbox does not answer; trying again' : 'live');
  timer = setTimeout(refresh, again ? 0 : Math.min(1000 * (1 + misses), 5000));
}
async function submit() {
  const text = $('input').value;
  JSON.parse(text);
  if (!/^\s*\{/.test(text)) throw new Error('The input must be a JSON object.');
  const rest = JSON.stringify({ agentId: $('agent').value.trim(), retries: Number($('retries').value),
    responseTimeoutSeconds: Number($('timeout').value) });
  const body = rest.slice(0, -1) + ',"input":' + text + '}';  // as it was typed: JSON.parse rounds large numbers
  const headers = { 'Content-Type': 'application/json' };
  location.hash = (await fetched('/api/sandbox/executions', { method: 'POST', headers, body })).id;
}
$('form').onsubmit = event => {
  event.preventDefault();
  const say = text => { $('wrong').hidden = !text; set($('wrong'), text); };
  submit().then(() => say(''), failure => say((failure instanceof SyntaxError ? 'Not JSON: ' : '') + failure.message));
};
$('input').onkeydown = event => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) $('form').requestSubmit();
};
window.onhashchange = document.onvisibilitychange = refresh;
set($('address'), location.origin);
refresh();
"""


def install(sandbox: Sandbox, commands: Sequence[str] = ()) -> None:
    """Serve the page at the sandbox's address. ``commands``: how to start a worker, shown until one polls."""
    engine, document = sandbox.engine, _document(commands)

    def overview(request: Request, _: str) -> Reply:
        now_s = engine.clock.monotonic()
        outlines = [_outline(execution, now_s) for execution in engine.executions(SHOWN_EXECUTIONS)]
        return Reply.of({"now": engine.clock.wall_ms(), "agents": engine.agents(), "executions": outlines})

    sandbox.route("GET", "/", lambda request, _: document)
    sandbox.route("GET", "/sandbox/overview", overview)
    sandbox.route("GET", "/sandbox/detail/*", lambda request, last: Reply.of(_detail(engine.wait(last, 0), engine)))


def _document(commands: Sequence[str]) -> Reply:
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Sandbox</title><link rel="icon" href="data:,">'
    head += f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
    shown = "".join(f"<code>{html.escape(command)}</code>" for command in commands)
    text = f"{head}{BODY.replace('<!--commands-->', shown)}<script>{SCRIPT}</script></html>"
    style, script = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (STYLE, SCRIPT))
    policy = (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    more = "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\n"
    return Reply(200, text.encode(), "text/html; charset=utf-8", f"Content-Security-Policy: {policy}\r\n{more}")


def _state(execution: Execution) -> str:
    running = execution.status == "RUNNING"
    return _STATES.get(execution.attempts[-1].status, "RUNNING") if running else execution.status


def _outline(execution: Execution, now_s: float) -> dict[str, Any]:
    """One row of the list; all but ``leaseLeft`` (seconds, or None) changes only with the execution."""
    last = execution.attempts[-1]
    return {
        "id": execution.id, "agentId": execution.agent_id, "state": _state(execution),
        "attempts": len(execution.attempts), "polls": last.poll_count, "reason": escape(last.reason or ""),
        "createdTime": execution.created_ms, "startTime": execution.attempts[0].start_ms,
        "endTime": execution.ended_ms, "updateTime": last.update_ms,
        "leaseLeft": max(last.lease_until - now_s, 0) if last.status == "IN_PROGRESS" else None,
    }  # fmt: skip


def _detail(execution: Execution, engine: Engine) -> dict[str, Any]:
    """``describe`` for the page: inputs and outputs as text, in which a browser rounds no number."""
    told = describe(execution, engine.clock.monotonic())
    told.update(state=_state(execution), input=_text(told["input"]), output=_text(told["output"]))
    told["cut"] = len(told["input"]) > SHOWN_CHARS
    for attempt in told["attempts"]:
        attempt["status"] = _STATES.get(attempt["status"], attempt["status"])
        attempt["reason"] = escape(attempt["reason"] or "", keep="\n\t")
        attempt["logs"] = [{**line, "log": escape(line["log"], keep="\n\t")} for line in attempt["logs"][-SHOWN_LINES:]]
        attempt["output"] = _text(attempt["output"]) if attempt["output"] else ""
    if execution.ended_ms:
        told["attempts"][-1]["output"] = ""  # it is the execution's
    return told


def _text(value: dict[str, Any]) -> str:
    """Indented JSON; what is invisible, or turns the direction of text, is spelled out."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    more = f"\n\u2026 and {len(text) - SHOWN_CHARS:,} characters more" if len(text) > SHOWN_CHARS else ""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text[:SHOWN_CHARS]) + more
