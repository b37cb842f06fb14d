/*
 * <code-scanner for="id_qr"></code-scanner>: a button that reads a QR code by camera into an input, in browsers that can
 * detect bar codes. Elsewhere the element stays empty, and the text is pasted.
 */
import { say } from "../language";

interface Detected {
  rawValue: string;
}

interface Detector {
  detect(source: HTMLVideoElement): Promise<Detected[]>;
}

declare global {
  interface Window {
    BarcodeDetector?: new (options: { formats: string[] }) => Detector;
  }
}

const EVERY_MS = 200;

class CodeScanner extends HTMLElement {
  #stream: MediaStream | undefined;
  #button = document.createElement("button");
  #words = document.createElement("span");
  #video = document.createElement("video");
  #status = document.createElement("p");

  connectedCallback(): void {
    if (!window.BarcodeDetector || !navigator.mediaDevices || this.querySelector("button")) return;
    this.#button.type = "button";
    this.#button.className = "kern-btn kern-btn--secondary";
    this.#words.className = "kern-label";
    this.#button.append(this.#words);
    this.#button.addEventListener("click", () => void (this.#stream ? this.#stop() : this.#start()));
    this.#video.muted = true;
    this.#video.playsInline = true;
    this.#video.hidden = true;
    this.#status.setAttribute("role", "status");
    this.#label(false);
    this.append(this.#button, this.#video, this.#status);
  }

  disconnectedCallback(): void {
    this.#stop();
  }

  #label(on: boolean): void {
    this.#words.textContent = on ? say("Kamera ausschalten", "Switch the camera off") : say("QR-Code mit der Kamera lesen", "Read the QR code with the camera");
  }

  #stop(): void {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = undefined;
    this.#video.hidden = true;
    this.#label(false);
  }

  async #start(): Promise<void> {
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch {
      this.#status.textContent = say("Die Kamera ist nicht erreichbar. Bitte den Text einfügen.", "The camera cannot be used. Please paste the text.");
      return;
    }
    this.#label(true);
    this.#status.textContent = say("Halten Sie den Code vor die Kamera.", "Hold the code in front of the camera.");
    this.#video.srcObject = this.#stream;
    this.#video.hidden = false;
    await this.#video.play();
    const detector = new window.BarcodeDetector!({ formats: ["qr_code"] });
    while (this.#stream) {
      const [found] = await detector.detect(this.#video).catch(() => []);
      if (found?.rawValue.toUpperCase().startsWith("LW:")) {
        this.#take(found.rawValue);
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  }

  #take(text: string): void {
    this.#stop();
    const input = document.getElementById(this.getAttribute("for") ?? "");
    if (!(input instanceof HTMLInputElement)) return;
    input.value = text;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    this.#status.textContent = say("Gelesen.", "Done.");
    input.focus();
  }
}

customElements.define("code-scanner", CodeScanner);
