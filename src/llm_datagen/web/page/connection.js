// The note that the server of this page does not answer.

import { get } from "./api.js";
import { visible } from "./text.js";

const banner = document.getElementById("connection");

function say(text) {
  banner.textContent = text;
  banner.hidden = false;
}

/** The handlers for `follow` that show whether the server answers; `app.signIn` when the session is over. */
export function watched(app) {
  return {
    async lost() {
      try {
        await get("server");
      } catch (error) {
        if (error.status === 401) return app.signIn(error);
        say("The server of this page does not answer. What is shown may be old; it goes on by itself when the server is back.");
      }
    },
    found() {
      banner.hidden = true;
    },
    failed({ error }) {
      say(`The run cannot be looked at: ${visible(error)}`);
    },
  };
}
