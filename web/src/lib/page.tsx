import type { ComponentChildren } from "preact";
import icon from "../style/icon.svg";
import { Problem } from "./api";

export function Top({ children }: { children?: ComponentChildren }) {
  return (
    <header class="top">
      <a class="brand" href="/"><img src={icon} alt="" width="26" height="26" /> Box office</a>
      {children}
    </header>
  );
}

/** A problem said to a person, with a way on. */
export function Trouble({ cause, again }: { cause: unknown; again?: () => void }) {
  if (!cause) return null;
  return (
    <div class="note stop row spread" role="alert">
      <p>
        {cause instanceof Problem ? cause.message : "Something went wrong on this page."}
        {cause instanceof Problem && cause.faults.map(({ location, message }) => <><br />{location.replace(/^body\./, "")} {message}</>)}
      </p>
      {again && <button class="button" type="button" onClick={again}>Try again</button>}
    </div>
  );
}
