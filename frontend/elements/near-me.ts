/*
 * <near-me href="/orte/?…"></near-me>: a button that asks the browser for the place and opens the address with
 * &lat=…&lon=… added. Without scripts there is no button: the search field does the same by street. The place is rounded
 * to about 100 m; it is sent only with this one request.
 */
import { say } from "../language";

class NearMe extends HTMLElement {
  connectedCallback(): void {
    if (!("geolocation" in navigator) || !window.isSecureContext || this.childElementCount) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "kern-btn kern-btn--secondary";
    const label = document.createElement("span");
    label.className = "kern-label";
    label.textContent = say("In meiner Nähe", "Near me");
    button.append(label);
    const status = document.createElement("p");
    status.className = "q-small q-soft";
    status.setAttribute("role", "status");
    button.addEventListener("click", () => {
      status.textContent = say("Standort wird bestimmt …", "Finding your place …");
      navigator.geolocation.getCurrentPosition(
        ({ coords }) => {
          const target = new URL(this.getAttribute("href") ?? location.href, location.href);
          target.searchParams.set("lat", coords.latitude.toFixed(3));
          target.searchParams.set("lon", coords.longitude.toFixed(3));
          location.assign(target);
        },
        () => {
          status.textContent = say(
            "Der Standort ist nicht bekannt. Bitte eine Straße oder einen Stadtteil suchen.",
            "Your place is not known. Please search for a street or district.",
          );
        },
        { timeout: 10_000, maximumAge: 300_000 },
      );
    });
    this.append(button, status);
  }
}

customElements.define("near-me", NearMe);
