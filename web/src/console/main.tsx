import "../style/console.css";
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Problem } from "../lib/api";
import { Trouble } from "../lib/page";
import icon from "../style/icon.svg";
import { RoomPage } from "./room";
import { RoomList } from "./rooms";
import { current, signIn, signOut, type Session } from "./session";

const parts = location.pathname.split("/").filter(Boolean).map(decodeURIComponent);
const room = parts[1] === "rooms" && parts[2] ? parts[2] : null;

function Console() {
  const [session, setSession] = useState<Session | null | undefined>(undefined);
  const [cause, setCause] = useState<unknown>(null);
  const look = () => {
    setCause(null);
    current().then(setSession, (problem) => {
      if (problem instanceof Problem && problem.status === 401) setSession(null);
      else setCause(problem);
    });
  };
  useEffect(look, []);

  if (cause) return <main class="page console"><Trouble cause={cause} again={look} /></main>;
  if (session === undefined) return null;
  if (session === null) return <SignIn done={setSession} />;
  const leave = async () => {
    await signOut().catch(() => {}); // the session ends by itself; this screen ends now
    setSession(null);
  };
  return (
    <>
      <header class="top console-top">
        <a class="brand" href="/console"><img src={icon} alt="" width="26" height="26" /> Console</a>
        <span class="row small"><span class="quiet">{session.name}</span><button class="button plain" type="button" onClick={leave}>Sign out</button></span>
      </header>
      <main class="page console">{room ? <RoomPage room={room} mayChange={session.role === "admin" || session.role === "operator"} ended={() => setSession(null)} /> : <RoomList ended={() => setSession(null)} />}</main>
    </>
  );
}

function SignIn({ done }: { done(session: Session): void }) {
  const [cause, setCause] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (e: SubmitEvent) => {
    e.preventDefault();
    const form = new FormData(e.currentTarget as HTMLFormElement);
    setBusy(true);
    setCause(null);
    try {
      done(await signIn(String(form.get("email")), String(form.get("password"))));
    } catch (problem) {
      setCause(problem);
      setBusy(false);
    }
  };
  return (
    <main class="page signin">
      <h1>Sign in</h1>
      <form class="sheet stack" onSubmit={submit}>
        <div class="field"><label for="email">E-mail</label><input id="email" name="email" type="email" autocomplete="username" required /></div>
        <div class="field"><label for="password">Password</label><input id="password" name="password" type="password" autocomplete="current-password" required /></div>
        <Trouble cause={cause} />
        <button class="button primary" disabled={busy}>{busy ? "One moment …" : "Sign in"}</button>
      </form>
    </main>
  );
}

render(<Console />, document.getElementById("app")!);
