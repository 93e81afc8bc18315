// The page of the chat. A line is one JSON object: {"id", "name", "text", "time"}. It counts as said when it comes back from
// the server. After a connection was lost the page makes a new one, and says again what did not come back.

const [lines, status, form, name, text] = ["lines", "status", "say", "name", "text"].map((id) => document.getElementById(id));
const session = crypto.getRandomValues(new Uint32Array(2)).join("-");
const mostShown = 500;
const shown = new Map();  // the items of the list by the ids of their lines
const pending = new Map();  // the lines that have not come back
let socket;
let said = 0;
let pause = 50;  // milliseconds before the next attempt

function hueOf(person) {
  let hue = 0;
  for (const letter of person) hue = (hue * 31 + letter.codePointAt(0)) % 360;
  return hue;
}

function element(tag, content) {
  const made = document.createElement(tag);
  made.textContent = content;
  return made;
}

function show(line) {
  const item = document.createElement("li");
  item.dataset.name = line.name;
  item.style.setProperty("--hue", hueOf(line.name));
  item.classList.toggle("mine", line.id.startsWith(session));
  item.classList.toggle("same", lines.lastElementChild?.dataset.name === line.name);
  const time = new Date(line.time);
  item.append(element("b", line.name), element("p", line.text));
  if (!isNaN(time)) item.append(element("time", time.toTimeString().slice(0, 5)));
  lines.append(item);
  item.scrollIntoView();
  shown.set(line.id, item);
  if (shown.size > mostShown) {
    const [oldest, itsItem] = shown.entries().next().value;
    itsItem.remove();
    shown.delete(oldest);
  }
  return item;
}

// The server gives what anyone has sent to it.
function parse(text) {
  try {
    const { id, name, text: words, time } = JSON.parse(text);
    return { id: String(id ?? text), name: String(name), text: String(words), time: String(time) };
  } catch {
    return null;
  }
}

function received({ data }) {
  for (const each of data.split("\n")) {
    const line = parse(each);
    if (!line) continue;
    if (!shown.has(line.id)) show(line);
    shown.get(line.id).classList.remove("pending");
    pending.delete(line.id);
  }
}

function connect() {
  socket = new WebSocket(new URL("room", location.href.replace(/^http/, "ws")));
  socket.onmessage = received;
  socket.onopen = () => {
    pause = 50;
    say("connected");
    for (const line of pending.values()) socket.send(JSON.stringify(line));
  };
  socket.onclose = () => {
    say("connecting");
    setTimeout(connect, pause);
    pause = Math.min(2 * pause, 5000);
  };
}

function say(state) {
  status.textContent = status.dataset.state = state;
}

form.onsubmit = (event) => {
  event.preventDefault();
  const line = { id: `${session}-${++said}`, name: name.value, text: text.value, time: new Date().toISOString() };
  pending.set(line.id, line);
  show(line).classList.add("pending");
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(line));
  text.value = "";
  localStorage.setItem("name", name.value);
};

name.value = localStorage.getItem("name") ?? "";
connect();
