// Shows the state as it is.
async function show(after) {
  try {
    const answer = await fetch(after === undefined ? "/api/state" : `/api/state?after=${after}&wait_ms=8000`);
    const state = await answer.json();
    document.getElementById("state").textContent = JSON.stringify(state, null, 2);
    show(state.revision);
  } catch {
    setTimeout(show, 1000);
  }
}
show();
