// The theme's search runs in a worker, which browsers start for no page that was opened as a file. There it runs in a
// hidden frame instead, by the same messages. The index is beside it as a script, since files cannot be fetched either.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #waiting = [];
    #deliver = (message) => this.#waiting.push(message);

    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = inside.document.createElement("script");
      script.onload = () => {
        this.#deliver = (data) => inside.dispatchEvent(new MessageEvent("message", { data }));
        this.#waiting.forEach(this.#deliver);
      };
      script.src = new URL(address, location);
      inside.document.head.append(script);
    }

    postMessage(message) {
      this.#deliver(message);
    }
  };
}
