/*
 * <tab-set label="…"><section id="http" data-tab="HTTP">…</section>…</tab-set>: sections one below the other become tabs
 * (WAI-ARIA APG, tabs with automatic activation). The address's fragment names the open one.
 */

class TabSet extends HTMLElement {
  #tabs: HTMLButtonElement[] = [];
  #panels: HTMLElement[] = [];

  connectedCallback(): void {
    if (this.#tabs.length) return;
    this.#panels = [...this.querySelectorAll<HTMLElement>(":scope > section[data-tab]")];
    if (this.#panels.length < 2) return;
    const list = document.createElement("div");
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", this.getAttribute("label") ?? "");
    this.#tabs = this.#panels.map((panel, index) => this.#makeTab(panel, index));
    list.append(...this.#tabs);
    this.prepend(list);
    const named = this.#panels.findIndex((panel) => `#${panel.id}` === location.hash);
    this.#open(Math.max(named, 0), false);
    window.addEventListener("hashchange", () => {
      const index = this.#panels.findIndex((panel) => `#${panel.id}` === location.hash);
      if (index >= 0) this.#open(index, false);
    });
  }

  #makeTab(panel: HTMLElement, index: number): HTMLButtonElement {
    const tab = document.createElement("button");
    tab.type = "button";
    tab.id = `${panel.id}-tab`;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", panel.id);
    tab.textContent = panel.dataset["tab"] ?? panel.id;
    tab.addEventListener("click", () => this.#open(index, false));
    tab.addEventListener("keydown", (event) => {
      const last = this.#tabs.length - 1;
      const next = { ArrowRight: index === last ? 0 : index + 1, ArrowLeft: index === 0 ? last : index - 1, Home: 0, End: last }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      this.#open(next, true);
    });
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", tab.id);
    panel.tabIndex = 0;
    return tab;
  }

  #open(chosen: number, focus: boolean): void {
    this.#tabs.forEach((tab, index) => {
      const selected = index === chosen;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
      this.#panels[index]!.hidden = !selected;
      if (selected && focus) tab.focus();
    });
  }
}

customElements.define("tab-set", TabSet);
export {};
