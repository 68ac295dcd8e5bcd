// The stream of states from the service.
//
// Owns: the connection, and that it comes back by itself after the service was away.
// Does not own: what is shown (see app.js).

// A state comes each second. A connection that is silent for longer is as good as lost: a laptop that slept, a proxy that hangs.
const SILENCE_MS = 6000;
// A page that nobody sees gives its place to others: the service has few, and a browser six connections for all its tabs.
const UNSEEN_MS = 60_000;
const PAUSE_MS_MIN = 500;
const PAUSE_MS_MAX = 5000;

export class Stream {
  // `onStatus(status)` for each state, `onLost(tries)` when the connection is gone, `onBack()` when it is there (also the first time).
  constructor(address, { onStatus, onLost, onBack }) {
    Object.assign(this, { address, onStatus, onLost, onBack });
    this.tries = 0;
    document.addEventListener("visibilitychange", () => this.look());
    this.open();
  }

  open() {
    this.source = new EventSource(this.address);
    this.isNew = true;
    this.source.addEventListener("status", (event) => this.receive(event));
    // The browser's own second try ends for good at an error answer, such as a proxy's 502: the tries are made here.
    this.source.onerror = () => this.lose();
    this.listen();
  }

  receive(event) {
    const status = JSON.parse(event.data);
    this.listen();
    if (this.isNew) {
      this.isNew = false;
      this.tries = 0;
      this.onBack();
    }
    this.onStatus(status);
  }

  // Rests a while after the page went out of sight, and is back at once when it comes into sight.
  look() {
    clearTimeout(this.unseen);
    if (document.hidden) {
      this.unseen = setTimeout(() => this.close(), UNSEEN_MS);
    } else if (this.source.readyState === EventSource.CLOSED) {
      this.close();
      this.open();
    }
  }

  close() {
    clearTimeout(this.silence);
    clearTimeout(this.next);
    this.source.close();
  }

  listen() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.lose(), SILENCE_MS);
  }

  lose() {
    this.close();
    const pause = Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** this.tries);
    this.tries += 1;
    this.onLost(this.tries);
    // Some chance in it, so that many open pages do not come back all at once.
    this.next = setTimeout(() => this.open(), pause * (0.75 + Math.random() / 2));
  }
}
