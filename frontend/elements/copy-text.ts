/* <copy-text><pre><code>…</code></pre></copy-text>: adds a button that copies the text; without scripts it is selected by hand. */
import { say } from "../language";

class CopyText extends HTMLElement {
  connectedCallback(): void {
    if (!navigator.clipboard || this.querySelector("button")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = say("Kopieren", "Copy");
    const status = document.createElement("span");
    status.className = "kern-sr-only";
    status.setAttribute("role", "status");
    button.addEventListener("click", () => void this.#copy(button, status));
    this.append(button, status);
  }

  async #copy(button: HTMLButtonElement, status: HTMLElement): Promise<void> {
    const text = this.querySelector("pre, code")?.textContent ?? "";
    try {
      await navigator.clipboard.writeText(text.trim());
      button.textContent = status.textContent = say("Kopiert", "Copied");
    } catch {
      button.textContent = status.textContent = say("Bitte von Hand kopieren", "Please copy by hand");
    }
    setTimeout(() => {
      button.textContent = say("Kopieren", "Copy");
      status.textContent = "";
    }, 2500);
  }
}

customElements.define("copy-text", CopyText);
