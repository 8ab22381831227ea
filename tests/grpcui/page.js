"use strict";
// What a person does on the page of grpcui, and what they read there.

const { chromium } = require("playwright-core");

// Nothing but the page is wanted, and nothing that needs another network than loopback.
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const LIMIT_MS = 20_000;

/** Starts the browser, headless; its data are in `folder`, which is empty. */
async function openBrowser(program, folder) {
  const browser = await chromium.launchPersistentContext(folder, {
    executablePath: program,
    headless: true,
    args: FLAGS,
    viewport: { width: 1280, height: 1600 },
  });
  browser.setDefaultTimeout(LIMIT_MS);
  return browser;
}

class Page {
  /** The page at `url`, new and with the method chosen. What goes wrong in its scripts goes into `faults`. */
  static async open(browser, url, method) {
    const page = new Page();
    page.tab = await browser.newPage();
    page.faults = [];
    page.tab.on("pageerror", (error) => page.faults.push(String(error)));
    page.tab.on("dialog", (dialog) => {
      page.faults.push(dialog.message());
      return dialog.dismiss();
    });
    await page.tab.goto(url);
    await page.tab.selectOption("#grpc-service", "useradmin.v1.UserAdmin");
    await page.tab.selectOption("#grpc-method", method);
    await page.tab.locator("#grpc-request-form th", { hasText: `useradmin.v1.${method}Request` }).waitFor();
    return page;
  }

  /** The name of a field in the form. */
  name(field) {
    return this.tab.locator("#grpc-request-form td.name strong").getByText(field, { exact: true });
  }

  row(field) {
    return this.name(field).locator("xpath=ancestor::tr[1]");
  }

  /** Ticks the field (or chooses it, in a oneof), and types. */
  async type(field, text) {
    const row = this.row(field);
    await row.locator("input[type=checkbox], input[type=radio]").check();
    await row.locator("textarea").fill(text);
  }

  async setTrue(field) {
    const row = this.row(field);
    await row.locator("input[type=checkbox]").check();
    await row.getByLabel("true").check();
  }

  async metadata(name, value) {
    const row = this.tab.locator("#grpc-request-metadata-form tr.metadataRow").first();
    await row.locator("input.name").fill(name);
    await row.locator("input.value").fill(value);
  }

  async timeout(seconds) {
    await this.tab.locator("#grpc-request-timeout input").fill(String(seconds));
  }

  /** Presses the button, and reads the tab that opens. */
  async invoke() {
    await this.tab.locator("#grpc-request-tab button.grpc-invoke").click();
    await this.tab.locator("#grpc-response-tab").waitFor({ state: "visible" });
    return {
      status: await this.visible("#grpc-response-error-summary"),
      message: await this.visible("#grpc-response-error-msg"),
      details: byType(await this.messages("#grpc-response-error-details")),
      data: await this.messages("#grpc-response-data"),
      trailers: await this.table("#grpc-response-trailers"),
    };
  }

  async backToForm() {
    await this.tab.getByRole("tab", { name: "Request Form" }).click();
    await this.tab.locator("#grpc-request-tab").waitFor({ state: "visible" });
  }

  /** What the tab with that name has as text, its request and its call for grpcurl. */
  async raw() {
    await this.tab.getByRole("tab", { name: "Raw Request" }).click();
    return {
      request: await this.tab.locator("#grpc-request-raw-text").inputValue(),
      grpcurl: await this.visible("#grpc-curl"),
    };
  }

  async visible(selector) {
    const element = this.tab.locator(selector);
    return (await element.isVisible()) ? (await element.innerText()).trim() : "";
  }

  /** The messages that can be seen there, each JSON in a box of its own. */
  async messages(selector) {
    const boxes = await this.tab.locator(`${selector} textarea`).all();
    const seen = [];
    for (const box of boxes) {
      if (await box.isVisible()) seen.push(JSON.parse(await box.inputValue()));
    }
    return seen;
  }

  /** Of these elements, the texts of those that have to be scrolled, or that reach beyond the window. */
  async hidden(selector) {
    return this.tab.locator(selector).evaluateAll((elements) =>
      elements
        .filter(
          (element) =>
            element.scrollHeight > element.clientHeight || element.getBoundingClientRect().right > window.innerWidth,
        )
        .map((element) => element.value),
    );
  }

  async table(selector) {
    const rows = await this.tab.locator(`${selector} tr`).all();
    const pairs = rows.map(async (row) => row.locator("td").allInnerTexts());
    return Object.fromEntries(await Promise.all(pairs));
  }

  async picture(file) {
    await this.tab.screenshot({ path: file });
  }
}

function byType(details) {
  const prefix = "type.googleapis.com/";
  return Object.fromEntries(details.map((detail) => [detail["@type"].replace(prefix, ""), detail]));
}

module.exports = { openBrowser, Page };
