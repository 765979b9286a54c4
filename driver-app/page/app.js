// The driver's page: shows everything in /api/state, keeps it current by long-polling, and sends what the driver taps.
//
// The program on this device decides which actions are possible (`can`) and stores them; this page stores only half-written
// notes and unanswered keys. Data reaches the page as text, never as markup. An item keeps its node as long as it is
// shown, so a new state never takes the focus, the scroll position or what the driver is typing.

const POLL_MS = 8000;                // how long the program may hold a request
const PROMPT_MS = 4000;              // after that no reply will come; a held request has POLL_MS on top
const ANSWER_MS = 15000;             // how long an action may take; enrolling asks the office
const LOST_AFTER_MS = 2500;          // a shorter silence, such as a restart, is not shown
const SETTLE_MS = 2000;              // how long a button stays off after its reply if no state shows the effect
const GHOST_TAP_MS = 500;            // a new form ignores the second half of a double tap
const CLOCK_MATTERS_MS = 120000;     // the page warns if the device's clock is off by more
const TOAST_MS = 4000;

const view = {
  state: null,      // the last state the program gave
  received_ms: 0,   // when, by the page's clock
  lost_ms: null,    // since when the program has not replied
  skew_ms: 0,       // the program's clock minus the page's
};
const busy = new Map();      // card → true while one of its actions is under way
const errors = new Map();    // card → why its last action did not work
const keys = new Map();      // deed → its Idempotency-Key, until the reply has come
const drafts = new Map();    // order → {kind, note, problem, opened_ms, delivery}: the form that is open on its card

// ── Words ────────────────────────────────────────────────────────────────────────────────────────────────────────────

const STATUS = {
  assigned: ['To pick up', 'i-box'],
  picked_up: ['On board', 'i-up'],
  delivered: ['Delivered', 'i-check'],
  cancelled: ['Cancelled', 'i-cross'],
};
const DONE = { pick_up: 'Picked up', deliver: 'Delivered', report_problem: 'Problem reported' };
const YOU_DID = { pick_up: 'You picked it up', deliver: 'You delivered it', report_problem: 'You reported a problem' };
const PROBLEM = {
  nobody_home: 'No one home', wrong_address: 'Wrong address', damaged: 'Damaged',
  refused: 'Refused at the door', other: 'Something else',
};
const OFFICE_SAYS = {
  assigned: 'The office has it as not picked up',
  picked_up: 'The office has it as picked up',
  delivered: 'The office has it as delivered',
  cancelled: 'The office cancelled it',
};
const STAYS = { assigned: 'still to be picked up', picked_up: 'picked up', delivered: 'delivered', cancelled: 'cancelled' };
const FINISHED = new Set(['delivered', 'cancelled']);

const isFinished = delivery => FINISHED.has(delivery.status);
const plain = word => String(word).replaceAll('_', ' ');
/** Drivers know the office, not its program. */
const forDrivers = text => capital(text.replaceAll('orders-service', 'the office'));
const capital = text => text.replace(/^[a-z]/, letter => letter.toUpperCase());
const many = (count, one, more = `${one}s`) => `${count} ${count === 1 ? one : more}`;
const isOnline = () => view.lost_ms === null && view.state.sync.online;
const now = () => Date.now() + view.skew_ms;

const clock = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: 'short', hour: 'numeric', minute: '2-digit' });
const calendar = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', hour: 'numeric', minute: '2-digit' });

/** "14:02" today, "Mon 14:02" this week, "3 Sept, 14:02" before. */
function moment(ms) {
  const then = new Date(ms), today = new Date(now());
  if (then.toDateString() === today.toDateString()) return clock.format(then);
  return Math.abs(today - then) < 6 * 86400000 ? weekday.format(then) : calendar.format(then);
}

function ago(ms) {
  const minutes = Math.floor((now() - ms) / 60000);
  if (minutes < 1) return 'just now';
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ago`;
  return `${many(Math.floor(minutes / 1440), 'day')} ago`;
}

/** Minor units with the currency's own number of digits; as a decimal string, so that no amount is rounded. */
function money(minor, currency) {
  try {
    const format = new Intl.NumberFormat(undefined, { style: 'currency', currency });
    const digits = format.resolvedOptions().maximumFractionDigits;
    const padded = String(Math.abs(minor)).padStart(digits + 1, '0');
    const whole = padded.slice(0, padded.length - digits), fraction = padded.slice(padded.length - digits);
    return format.format(`${minor < 0 ? '-' : ''}${whole}${digits ? `.${fraction}` : ''}`);
  } catch {
    return `${minor} ${currency}`; // not a currency this browser knows
  }
}

/** The end of the id: the beginnings of ids made on one day look alike. */
const number = order_id => `No. ${order_id.length > 8 ? `…${order_id.slice(-6)}` : order_id}`.toUpperCase().replace('NO.', 'No.');

const youDid = intent => `${YOU_DID[intent.kind] ?? `You said “${plain(intent.kind)}”`} at ${moment(intent.device_time_ms)}${
  intent.problem ? `: ${(PROBLEM[intent.problem] ?? plain(intent.problem)).toLowerCase()}` : ''}.`;

function howFar(intent) {
  if (intent.state === 'confirmed') return 'The office has it.';
  if (intent.state === 'stopped') return 'Blocked by one that failed. Retry that one or discard it.';
  if (intent.state === 'waiting') return 'Waits. It is sent automatically.';
  if (!isOnline()) return 'Will be sent when you are online.';
  return intent.state === 'in_flight' ? 'Being sent…' : 'About to be sent.';
}

const theirVersion = current => (current === null
  ? 'The office no longer has it among your deliveries.'
  : `${OFFICE_SAYS[current.status] ?? `The office has it as ${plain(current.status)}`} at ${moment(current.changed_at_ms)}.`);

const acceptMeans = current => (current === null
  ? 'It leaves your list, and what you recorded is discarded.'
  : `It stays ${STAYS[current.status] ?? plain(current.status)}, and what you recorded is discarded.`);

const INSIST_MEANS = 'You tell the office that what you recorded really happened. The office decides.';

/** Problem codes that the driver can act on; for the others the program's own words are enough. */
function inWords(problem) {
  if (problem.code === 'invalid_code') return 'This code does not work. It is mistyped, used or too old. Check it, or ask the office for a new one.';
  if (problem.code === 'unreachable') return 'The office cannot be reached. Try again where you have a connection.';
  if (problem.code === 'idempotency_key_reused') return 'Your first version is recorded already. Check it, and send this one only if it adds something.';
  if (problem.code === 'not_possible_now') return 'The delivery has changed, so this is no longer possible. Check it again.';
  return problem.detail || problem.title || 'That did not work. Try again.';
}

// ── Keeping up ───────────────────────────────────────────────────────────────────────────────────────────────────────

let waiting = new AbortController();    // the open request
const settling = new Set();             // called with every new state

async function follow() {
  for (let failures = 0; ; ) {
    try {
      take(await ask(failures));
      failures = 0;
    } catch (error) {
      failures += 1;
      lose(error);
      await pause(Math.min(250 * 2 ** failures, 4000));
    }
  }
}

/** Without a revision after a failure: a restarted program counts from a new number. */
async function ask(failures) {
  const known = view.state && failures === 0 ? `?after=${view.state.revision}&wait_ms=${POLL_MS}` : '';
  waiting = new AbortController();
  const signal = AbortSignal.any([waiting.signal, AbortSignal.timeout(known ? POLL_MS + PROMPT_MS : PROMPT_MS)]);
  const answer = await fetch(`/api/state${known}`, { signal, cache: 'no-store' });
  if (!answer.ok) throw new Error(`the program returned ${answer.status}`);
  return answer.json();
}

function take(state) {
  view.state = state;
  view.received_ms = Date.now();
  view.lost_ms = null;
  view.skew_ms = state.sync.now_ms - view.received_ms;
  for (const look of settling) look(state);
  show();
}

function lose(error) {
  if (error.name === 'AbortError') return; // the page itself cancelled the request
  view.lost_ms ??= Date.now();
  setTimeout(show, LOST_AFTER_MS + 50);
}

/** A phone that wakes up asks at once: the reply to its open request may never come. */
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && Date.now() - view.received_ms > POLL_MS) waiting.abort();
});

const pause = ms => new Promise(done => setTimeout(done, ms));

// ── Doing ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** One action of a card at a time. The card stays off until a state shows the effect, so a double tap sends once. A deed is
    the action's name: a retry of the same deed has the same key. */
async function act(card, path, body, seen, deed) {
  if (busy.has(card)) return false;
  busy.set(card, true);
  errors.delete(card);
  show();
  try {
    const answer = await post(path, body, deed);
    await settled(state => seen(state, answer));
    return true;
  } catch (error) {
    errors.set(card, error.words ?? 'The app on this device did not answer. Try again when it is back; nothing is recorded twice.');
    return false;
  } finally {
    busy.delete(card);
    show();
  }
}

async function post(path, body, deed) {
  const key = deed && { 'Idempotency-Key': keyOf(deed) };
  const answer = await fetch(path, {
    method: 'POST', headers: { 'Content-Type': 'application/json', ...key }, body: JSON.stringify(body),
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  const reply = await answer.json().catch(() => ({}));
  if (answer.status < 500 && answer.status !== 408) forgetKey(deed); // after other errors it may be recorded or not
  if (answer.ok) return reply;
  throw Object.assign(new Error(path), { words: inWords(reply) });
}

/** Kept over a reload, because the reply may be lost with the page. */
function keyOf(deed) {
  if (!keys.has(deed)) keys.set(deed, crypto.randomUUID());
  store('keys', [...keys]);
  return keys.get(deed);
}

function forgetKey(deed) {
  if (keys.delete(deed)) store('keys', [...keys]);
}

function settled(seen) {
  if (seen(view.state)) return Promise.resolve();
  return new Promise(done => {
    const end = () => { settling.delete(look); clearTimeout(late); done(); };
    const look = state => { if (seen(state)) end(); };
    const late = setTimeout(end, SETTLE_MS);
    settling.add(look);
  });
}

/** The state contains the intent: on its delivery, as a conflict or as a refusal. */
const shows = (state, { intent_id }) => [...state.deliveries.flatMap(delivery => delivery.pending), ...state.conflicts, ...state.refused]
  .some(intent => intent.intent_id === intent_id);

async function change(order_id, kind, body, deed) {
  const path = `/api/deliveries/${encodeURIComponent(order_id)}/${kind}`;
  const name = find(order_id)?.customer;
  if (!await act(order_id, path, body, shows, deed)) return;
  forget(order_id);
  show();
  keepFocusNear(order_id);
  say(`${DONE[kind]}${name ? `: ${name}` : ''}.${isOnline() ? '' : ' Will be sent when you are online.'}`);
}

/** The tapped button is gone. The focus moves to the card, or to the list that the card has left. */
function keepFocusNear(order_id) {
  if (document.activeElement !== document.body) return;
  const card = one(`[data-list=open] [data-order="${CSS.escape(order_id)}"]`);
  (card ? one('h3', card) : one('#open-title')).focus({ preventScroll: true });
}

const decide = (intent_id, decision) => act(intent_id, `/api/conflicts/${encodeURIComponent(intent_id)}/decide`, { decision },
  state => !state.conflicts.some(conflict => conflict.intent_id === intent_id && !conflict.deciding), `${decision} ${intent_id}`);

const settleRefused = (intent_id, what) => act(intent_id, `/api/refused/${encodeURIComponent(intent_id)}/${what}`, {},
  state => !state.refused.some(refusal => refusal.intent_id === intent_id));

async function enrol(code) {
  if (!code) {
    errors.set('enrol', 'Type the code that the office gave you.');
    show();
  } else if (await act('enrol', '/api/enrol', { code }, state => state.sync.enrolment === 'valid')) {
    one('#code').value = '';
    say('This device is enrolled.');
  }
}

/** "abcd efgh–jkmn" and "ABCD-EFGH-JKMN" are the same code. */
const tidied = code => (code.toUpperCase().match(/[A-Z0-9]/g) ?? []).join('').replace(/(.{4})(?=.)/g, '$1-');

const ACTIONS = {
  pick_up: card => change(card.dataset.order, 'pick_up', {}, `pick_up ${card.dataset.order} at ${find(card.dataset.order)?.version}`),
  deliver: card => openForm(card, 'deliver'),
  report_problem: card => openForm(card, 'report_problem'),
  back: card => closeForm(card),
  accept: card => decide(card.dataset.intent, 'accepted'),
  insist: card => decide(card.dataset.intent, 'insisted'),
  dismiss: card => settleRefused(card.dataset.intent, 'dismiss'),
  retry: card => settleRefused(card.dataset.intent, 'retry'),
  sync: () => act('sync', '/api/sync', {}, () => true),
};

document.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.note) addNote(button);
  if (button.type === 'button') ACTIONS[button.dataset.action]?.(button.closest('.card'));
});

document.addEventListener('submit', event => {
  event.preventDefault();
  const form = event.target;
  if (form.dataset.form === 'enrol') enrol(form.elements.code.value = tidied(form.elements.code.value));
  else confirm(form.closest('.card'));
});

document.addEventListener('input', event => {
  if (event.target.name === 'code') tidyWhileTyping(event);
  else keepDraft(event.target.closest('.card'));
});

/** Only at the end and never while deleting, so that the caret does not jump. */
function tidyWhileTyping({ target, inputType }) {
  const atEnd = target.selectionStart === target.value.length;
  if (atEnd && !inputType?.startsWith('delete')) target.value = tidied(target.value);
  if (errors.delete('enrol')) show();
}

// ── Forms on cards, and their drafts ─────────────────────────────────────────────────────────────────────────────────

function openForm(card, kind) {
  const order = card.dataset.order;
  drafts.set(order, { kind, note: '', problem: null, opened_ms: Date.now(), delivery: find(order) });
  errors.delete(order);
  show();
  setTimeout(show, GHOST_TAP_MS + 50);
  const form = one('form', card);
  one('h4', form).focus({ preventScroll: true });
  form.scrollIntoView({ block: 'nearest' });
}

function closeForm(card) {
  forget(card.dataset.order);
  errors.delete(card.dataset.order);
  show();
  one('h3', card).focus({ preventScroll: true });
}

function forget(order_id) {
  drafts.delete(order_id);
  storeDrafts();
}

function confirm(card) {
  const draft = drafts.get(card.dataset.order);
  if (isFresh(draft)) return; // the enter key bypasses the button
  const note = draft.note.toWellFormed?.() ?? draft.note; // half an emoji is not valid JSON; the program cleans the rest
  const body = note.trim() ? { note } : {};
  const order = card.dataset.order, deed = `${draft.kind} ${order}`;
  storeDrafts();
  if (draft.kind === 'deliver') return change(order, 'deliver', body, deed);
  if (draft.problem) return change(order, 'report_problem', { problem: draft.problem, ...body }, deed);
  errors.set(order, 'Choose the kind of problem.');
  show();
}

const isFresh = draft => Date.now() - draft.opened_ms < GHOST_TAP_MS;

function addNote(button) {
  const field = button.form.elements.note, written = field.value.trim();
  const chips = [...button.form.querySelectorAll('[data-note]')].map(chip => chip.dataset.note);
  field.value = !written || chips.includes(written) ? button.dataset.note : `${written}. ${button.dataset.note}`;
  keepDraft(button.closest('.card'));
}

/** Also stored in the tab, because a phone that is short of memory unloads pages and loads them again. */
function keepDraft(card) {
  const draft = card && drafts.get(card.dataset.order), form = card && one('form', card);
  if (!draft || !form) return;
  draft.note = form.elements.note.value;
  draft.problem = form.elements.problem?.value || null;
  if (errors.delete(card.dataset.order)) show();
  storeDrafts();
}

function storeDrafts() {
  store('drafts', [...drafts].map(([order, { kind, note, problem }]) => [order, { kind, note, problem }]));
}

function store(name, list) {
  try { sessionStorage.setItem(name, JSON.stringify(list)); } catch { /* no storage: it lasts as long as the page */ }
}

function stored(name) {
  try { return new Map(JSON.parse(sessionStorage.getItem(name))); } catch { return new Map(); /* nothing stored, or not ours */ }
}

function loadStored() {
  for (const [order, draft] of stored('drafts')) drafts.set(order, { ...draft, opened_ms: 0 });
  for (const [deed, key] of stored('keys')) keys.set(deed, key);
}

// ── Showing ──────────────────────────────────────────────────────────────────────────────────────────────────────────

function show() {
  if (!view.state) return showSilence();
  const { driver, sync } = view.state;
  const lost = isLost(), expired = driver && sync.enrolment === 'expired_or_revoked';
  mark(document.body, 'view', driver ? 'work' : 'enrol');
  mark(document.body, 'link', lost ? 'lost' : sync.online ? 'online' : 'offline');
  hide(one('#starting'), true);
  hide(one('#link'), !driver && !lost);
  hide(one('#enrol'), Boolean(driver) && !expired);
  hide(one('#work'), !driver);
  write(field(document, 'driver'), driver?.name ?? '');
  showLink(lost, sync);
  showEnrol(expired, sync.revoked);
  if (driver) showWork();
  else hide(one('#finished'), true);
}

const isLost = () => view.lost_ms !== null && Date.now() - view.lost_ms >= LOST_AFTER_MS;
const find = order_id => view.state?.deliveries.find(delivery => delivery.order_id === order_id);

function showSilence() {
  if (isLost()) write(one('#starting p'), 'The app on this device is not answering yet. This page opens as soon as it does.');
}

function showLink(lost, sync) {
  const link = one('#link'), unsent = Math.max(sync.pending, sync.in_flight);
  const oldest = sync.oldest_unsent_ms === null ? '' : `, the oldest from ${moment(sync.oldest_unsent_ms)}`;
  const [title, since, waits] = lost
    ? ['The app is not answering', `You see the state of ${moment(view.received_ms + view.skew_ms)}. What you recorded is kept, and this page reconnects automatically.`, '']
    : sync.online
      ? ['Online', unsent ? `Sending ${many(unsent, 'change')}…` : 'Everything is sent', '']
      : ['Offline', sync.last_contact_ms === null ? 'No contact with the office yet' : `Last contact ${ago(sync.last_contact_ms)}, at ${moment(sync.last_contact_ms)}`,
        unsent ? `${many(unsent, 'change waits', 'changes wait')} on this device${oldest}.` : 'Nothing is waiting to be sent.'];
  aim(field(link, 'link-icon'), lost ? 'i-wait' : sync.online ? 'i-on' : 'i-off');
  write(field(link, 'link-title'), title);
  write(field(link, 'link-since'), since);
  writeOrHide(field(link, 'link-pending'), waits);
  writeOrHide(field(link, 'link-because'), lost ? '' : forDrivers(sync.waiting_because ?? ''));
  writeOrHide(field(link, 'sync-error'), errors.get('sync') ?? '');
  const again = one('[data-action=sync]', link);
  hide(again, lost || (sync.online && !sync.waiting_because && !unsent));
  disable(again, busy.has('sync'));
  announceLink(title);
}

/** For screen readers: once per change, not every minute. */
let announced = 'Online';
function announceLink(title) {
  if (title === announced) return;
  announced = title;
  write(one('#aloud'), title === 'Offline' ? 'Offline. You can continue; your changes are sent later.' : `${title}.`);
}

function showEnrol(expired, revoked) {
  const section = one('#enrol');
  const mayPass = expired && revoked === false;
  write(field(section, 'enrol-title'), mayPass ? 'The office does not accept this device at the moment'
    : expired ? 'This device is not enrolled any more' : 'Enrol this device');
  write(field(section, 'enrol-why'), mayPass
    ? 'You can continue to work, and everything is kept here. The device keeps asking by itself. If this lasts, ask the office for a new code.'
    : expired
    ? 'The office has revoked it. You can continue to work, and everything is kept here, but nothing is sent until you enrol again. Ask the office for a new code.'
    : 'The office gives you a code. Enter it once while you have a connection. After that, this device also works offline.');
  writeOrHide(field(section, 'enrol-error'), errors.get('enrol') ?? '');
  set(one('#code'), 'aria-invalid', errors.has('enrol') ? 'true' : 'false');
  const button = one('[data-action=enrol]', section);
  write(button, busy.has('enrol') ? 'Asking the office…' : 'Enrol this device');
  disable(button, busy.has('enrol') || isLost());
}

function showWork() {
  const { deliveries, conflicts, refused, sync } = view.state;
  const groups = { open: [], unsent: [], finished: [] };
  for (const delivery of [...deliveries, ...departed(deliveries)]) groups[groupOf(delivery)].push(delivery);
  groups.open.sort((a, b) => a.created_at_ms - b.created_at_ms || (a.order_id < b.order_id ? -1 : 1));
  groups.finished.sort((a, b) => b.changed_at_ms - a.changed_at_ms);
  keyed(list('conflicts'), conflicts, conflict => conflict.intent_id, 'conflict', showConflict);
  keyed(list('refused'), refused, refusal => refusal.intent_id, 'refused', showRefused);
  for (const name of Object.keys(groups)) keyed(list(name), groups[name], delivery => delivery.order_id, 'delivery', showDelivery);
  showGroup('attention', conflicts.length + refused.length);
  write(field(document, 'open-count'), groups.open.length);
  showGroup('unsent', groups.unsent.length);
  showGroup('finished', groups.finished.length);
  writeOrHide(field(document, 'open-empty'), groups.open.length ? ''
    : deliveries.length ? 'All done. New deliveries appear here automatically.' : 'No deliveries yet. They appear here as soon as the office assigns some to you.');
  showClock(sync.clock_off_by_ms ?? 0);
}

/** A card with an open form stays where it is, so that its text does not vanish into the folded list. */
function groupOf(delivery) {
  if (drafts.has(delivery.order_id) || !isFinished(delivery)) return 'open';
  return delivery.pending.some(intent => intent.state !== 'confirmed') ? 'unsent' : 'finished';
}

/** Deliveries that left the list while their form is open, in their last state. */
function departed(deliveries) {
  for (const [order, draft] of drafts) draft.delivery = deliveries.find(delivery => delivery.order_id === order) ?? draft.delivery;
  return [...drafts.entries()]
    .filter(([order, draft]) => draft.delivery && !deliveries.some(delivery => delivery.order_id === order))
    .map(([, draft]) => ({ ...draft.delivery, can: [], pending: [], departed: true }));
}

function showGroup(name, count) {
  hide(one(`[data-group=${name}]`), count === 0);
  write(field(document, `${name}-count`), count);
}

function showClock(off_ms) {
  const minutes = Math.round(Math.abs(off_ms) / 60000);
  const words = `This device’s clock is ${minutes < 120 ? `${minutes} min` : `${Math.round(minutes / 60)} h`} ${off_ms > 0 ? 'ahead' : 'behind'}. The times you record are wrong by as much. Please set the clock.`;
  writeOrHide(field(document, 'clock'), Math.abs(off_ms) > CLOCK_MATTERS_MS ? words : '');
}

function showDelivery(card, delivery) {
  const [status, icon] = STATUS[delivery.status] ?? [plain(delivery.status), 'i-box'];
  mark(card, 'order', delivery.order_id);
  mark(card, 'status', delivery.status);
  write(field(card, 'status'), status);
  aim(field(card, 'status-icon'), icon);
  showWhose(card, delivery.customer, delivery.order_id);
  write(field(card, 'amount'), money(delivery.amount_minor, delivery.currency));
  write(field(card, 'since'), `${isFinished(delivery) ? '' : 'since '}${moment(delivery.changed_at_ms)}`);
  writeOrHide(field(card, 'problems'), delivery.problems ? many(delivery.problems, 'problem reported', 'problems reported') : '');
  writeOrHide(field(card, 'note'), delivery.note ?? plain(delivery.cancel_reason ?? ''));
  const pending = field(card, 'pending');
  keyed(pending, delivery.pending, intent => intent.intent_id, 'intent', showIntent);
  hide(pending, delivery.pending.length === 0);
  showForm(card, delivery);
  showActions(card, delivery);
  showBusy(card, delivery.order_id);
}

function showWhose(card, customer, order_id) {
  const name = field(card, 'customer');
  write(name, customer ?? 'Customer not known yet');
  name.classList.toggle('unknown', customer === null || customer === undefined);
  write(field(card, 'number'), number(order_id));
  set(field(card, 'number'), 'title', order_id);
}

function showIntent(item, intent) {
  mark(item, 'intent', intent.intent_id);
  mark(item, 'state', intent.state);
  aim(field(item, 'icon'), intent.state === 'confirmed' ? 'i-check' : 'i-wait');
  write(field(item, 'what'), `${DONE[intent.kind] ?? plain(intent.kind)} at ${moment(intent.device_time_ms)}.`);
  write(field(item, 'how'), howFar(intent));
}

/** The actions that the program allows; none while a form of the card is open. */
function showActions(card, delivery) {
  const open = drafts.has(delivery.order_id);
  for (const button of field(card, 'actions').children) hide(button, open || !delivery.can.includes(button.dataset.action));
  hide(field(card, 'actions'), open || delivery.can.length === 0);
}

function showForm(card, delivery) {
  const draft = drafts.get(delivery.order_id);
  let form = one('form', card);
  if (form && form.dataset.form !== draft?.kind) { form.remove(); form = null; }
  if (!draft) return;
  if (!form) card.append(form = filledForm(draft));
  const gone = delivery.departed ? 'This delivery is no longer yours.' : `This delivery has changed: ${(STATUS[delivery.status]?.[0] ?? plain(delivery.status)).toLowerCase()}.`;
  const allowed = delivery.can.includes(draft.kind) || busy.has(delivery.order_id);
  writeOrHide(field(form, 'changed'), allowed ? '' : `${gone} Your text stays here until you go back.`);
  mark(form, 'allowed', allowed);
  mark(form, 'fresh', isFresh(draft));
}

function filledForm({ kind, note, problem }) {
  const form = copy(`form-${kind}`);
  form.elements.note.value = note;
  if (problem) form.elements.problem.value = problem;
  return form;
}

function showConflict(card, conflict) {
  const known = conflict.current ?? find(conflict.order_id);
  mark(card, 'intent', conflict.intent_id);
  mark(card, 'order', conflict.order_id);
  mark(card, 'code', conflict.code);
  showWhose(card, known?.customer ?? null, conflict.order_id);
  write(field(card, 'amount'), known ? money(known.amount_minor, known.currency) : '');
  write(field(card, 'mine'), youDid(conflict));
  writeOrHide(field(card, 'mine-note'), conflict.note ?? '');
  write(field(card, 'theirs'), theirVersion(conflict.current));
  writeOrHide(field(card, 'theirs-note'), conflict.current?.cancel_reason ? plain(conflict.current.cancel_reason) : conflict.current?.note ?? '');
  // For a cancelled order it would only repeat the office's version.
  writeOrHide(field(card, 'detail'), conflict.current?.status === 'cancelled' ? '' : forDrivers(conflict.detail ?? ''));
  showDecision(card, conflict);
  showBusy(card, conflict.intent_id);
}

/** A driver who insisted may still accept, but cannot insist twice. */
function showDecision(card, { current, decision, deciding }) {
  const insisted = decision === 'insisted';
  const words = deciding
    ? `${insisted ? 'You insisted.' : 'You have decided.'} ${isOnline() ? 'Being sent…' : 'Will be sent when you are online.'}`
    : insisted ? 'You insisted. The office has your version.' : '';
  write(field(card, 'deciding-text'), words);
  hide(field(card, 'deciding'), !words);
  hide(field(card, 'choices'), deciding);
  hide(field(card, 'insist'), insisted);
  write(field(card, 'accept-means'), acceptMeans(current));
  write(field(card, 'insist-means'), INSIST_MEANS);
}

function showRefused(card, refusal) {
  mark(card, 'intent', refusal.intent_id);
  mark(card, 'order', refusal.order_id);
  mark(card, 'code', refusal.code);
  write(field(card, 'title'), refusal.gave_up ? 'Failed' : 'Not accepted');
  showWhose(card, find(refusal.order_id)?.customer ?? null, refusal.order_id);
  write(field(card, 'mine'), youDid(refusal));
  writeOrHide(field(card, 'mine-note'), refusal.note ?? '');
  writeOrHide(field(card, 'detail'), forDrivers(refusal.detail ?? ''));
  write(field(card, 'means'), refusal.gave_up ? 'This change could not be sent. Retry it or discard it. The office never sees a discarded change.'
    : 'The office did not accept this change, so it does not count. If it matters, call the office.');
  write(one('[data-action=dismiss]', card), refusal.gave_up ? 'Discard' : 'OK, I have read it');
  hide(one('[data-action=retry]', card), !refusal.gave_up);
  showBusy(card, refusal.intent_id);
}

/** Buttons are off while a reply is awaited, and while the program does not answer. Going back is always possible. */
function showBusy(card, key) {
  writeOrHide(field(card, 'error'), errors.get(key) ?? '');
  if (card.hasAttribute('data-busy') !== busy.has(key)) card.toggleAttribute('data-busy', busy.has(key));
  set(card, 'aria-busy', String(busy.has(key)));
  const off = busy.has(key) || isLost(), form = one('form', card);
  for (const button of card.querySelectorAll('button[data-action]')) {
    const closed = button.dataset.action === 'confirm' && (form.dataset.allowed === 'false' || form.dataset.fresh === 'true');
    disable(button, button.dataset.action === 'back' ? busy.has(key) : off || closed);
  }
}

let toasting;
function say(words) {
  const toast = one('#toast');
  toast.textContent = words;
  toast.classList.add('shown');
  clearTimeout(toasting);
  toasting = setTimeout(() => toast.classList.remove('shown'), TOAST_MS);
}

// ── The page changes only where the state does ───────────────────────────────────────────────────────────────────────

const one = (selector, within = document) => within.querySelector(selector);
const field = (within, name) => one(`[data-field="${name}"]`, within);
const list = name => one(`[data-list=${name}]`);
const copy = template => document.getElementById(template).content.firstElementChild.cloneNode(true);

function write(node, text) {
  if (node.textContent !== String(text)) node.textContent = text;
}

function hide(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

function writeOrHide(node, text) {
  write(node, text);
  hide(node, text === '');
}

function disable(button, disabled) {
  if (button.disabled !== disabled) button.disabled = disabled;
}

function set(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

const mark = (node, name, value) => set(node, `data-${name}`, value);
const aim = (use, symbol) => set(use, 'href', `#${symbol}`);

/** Gives `parent` one child per item, in their order. A child whose key is still there is kept. */
function keyed(parent, items, key, template, update) {
  const kept = new Map([...parent.children].map(child => [child.dataset.key, child]));
  const wanted = new Set(items.map(item => key(item)));
  for (const [name, child] of kept) if (!wanted.has(name)) child.remove();
  let place = parent.firstElementChild;
  for (const item of items) {
    const child = kept.get(key(item)) ?? copy(template);
    mark(child, 'key', key(item));
    if (child === place) place = place.nextElementSibling;
    else if (child.isConnected && parent.moveBefore) parent.moveBefore(child, place);
    else parent.insertBefore(child, place);
    update(child, item);
  }
}

loadStored();
one('#finished').open = matchMedia('(min-width: 60rem)').matches;
setInterval(() => { if (view.state) show(); }, 10000); // "12 min ago" grows
follow();
