// What a link to the waiting room may carry in its fragment, which no server
// sees: an invitation, or the code of a place on another device.

/** Read once and taken out of the address bar, so that it is not shared by mistake. */
function fromLink(name: string): string | null {
  const carried = new URLSearchParams(location.hash.slice(1));
  const value = carried.get(name);
  if (value === null) return null;
  carried.delete(name);
  const rest = carried.toString();
  history.replaceState(history.state, "", location.pathname + location.search + (rest ? `#${rest}` : ""));
  return value;
}

const nameOf = (room: string) => `usher-invite ${room}`;

/** The invitation of this tab: it outlives a reload, and a place that lapsed. */
export function invitation(room: string): string | null {
  const carried = fromLink("invite");
  if (carried) keepInvitation(room, carried);
  return sessionStorage.getItem(nameOf(room));
}

export const keepInvitation = (room: string, invite: string) => sessionStorage.setItem(nameOf(room), invite);
export const forgetInvitation = (room: string) => sessionStorage.removeItem(nameOf(room));

export const resumeCode = () => fromLink("resume");
