// The page: the overview is fetched anew when something happens, and each few seconds; events are
// appended as they come. Text is set as text, never as markup; what is old says how old it is.
"use strict";
(() => {
  const EVERY_MS = 2000, STALE_MS = 5000, MOST = 200;
  const by = (id) => document.getElementById(id);
  let good = Date.now(), asking = false, again = false, position = document.body.dataset.position;

  async function refresh() {
    if (asking) { again = true; return; }
    asking = true;
    try {
      const answer = await fetch("/overview", { signal: AbortSignal.timeout(STALE_MS) });
      if (answer.status === 401) { location.assign("/sign-in"); return; }
      if (answer.ok) {
        const text = await answer.text();
        const overview = by("overview");  // what is being pressed is not taken away
        if (text !== refresh.last && !overview.matches(":active")) {
          const at = overview.contains(document.activeElement) && document.activeElement.getAttribute("href");
          overview.innerHTML = text;
          refresh.last = text;
          if (at) [...overview.querySelectorAll("a")].find((a) => a.getAttribute("href") === at)?.focus();
        }
        good = Date.now();
      }
    } catch { /* its age says it */ }
    asking = false;
    if (again) { again = false; refresh(); }
  }

  function age() {
    const old = Date.now() - good;
    document.body.toggleAttribute("data-stale", old > STALE_MS);
    by("state").textContent = old > STALE_MS
      ? `the server does not answer: this is ${Math.round(old / 1000)} s old` : "as of now";
  }

  function about(event) {
    const d = event.data, known = [event.operation && d.kind, d.step, d.subject || event.subject, d.detail,
      d.new_primary && `primary: ${d.new_primary}`, d.rule,
      (d.evidence || []).map((e) => e.note).filter(Boolean).slice(0, 3).join(", "), "success" in d && (d.success ? "done" : "failed")];
    return known.filter(Boolean).join(" · ");
  }

  function show(event) {
    const line = by("line"), row = document.createElement("li");
    const time = document.createElement("time"), type = document.createElement("em"), rest = document.createElement("span");
    time.dateTime = event.time;
    time.textContent = event.time.slice(11, 19);
    type.textContent = event.type.replace("everlode.", "");
    rest.textContent = `${event.region} · ${about(event)}`;
    row.append(time, type, rest);
    line.prepend(row);
    while (line.children.length > MOST) line.lastChild.remove();
    by("empty").hidden = true;
  }

  function follow() {
    const source = new EventSource("/events?position=" + encodeURIComponent(position));
    source.onopen = () => { by("link").textContent = "live"; };
    source.onmessage = (message) => { position = message.lastEventId; show(JSON.parse(message.data)); refresh(); };
    source.addEventListener("stale", (message) => {
      position = JSON.parse(message.data).position;
      by("link").textContent = "some events were missed: the overview is as of now";
      refresh();
    });
    source.onerror = () => {
      by("link").textContent = "not connected: trying again";
      if (source.readyState === EventSource.CLOSED) { source.close(); setTimeout(follow, EVERY_MS); }
    };
  }

  setInterval(refresh, EVERY_MS);
  setInterval(age, 1000);
  follow();
})();
