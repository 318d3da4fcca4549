import type { Hold, Money, Problem } from "../lib/api";
import { seatName, type Layout } from "./plan";

/** What the visitor has chosen: seats by index, and how many in each area. */
export interface Choice { seats: ReadonlySet<number>; areas: ReadonlyMap<string, number> }

export const nothing: Choice = { seats: new Set(), areas: new Map() };

/** A choice as the box office writes it. */
export interface Wish { seats: number[]; areas: { id: string; quantity: number }[] }

export const choiceOf = ({ seats, areas }: Wish): Choice => ({ seats: new Set(seats), areas: new Map(areas.map((a) => [a.id, a.quantity])) });

export const wishOf = ({ seats, areas }: Choice): Wish => ({ seats: [...seats].sort((a, b) => a - b), areas: [...areas].map(([id, quantity]) => ({ id, quantity })) });

export const without = (choice: Choice, lost: ReadonlySet<number>): Choice => ({ ...choice, seats: new Set([...choice.seats].filter((i) => !lost.has(i))) });

export function ticketsIn({ seats, areas }: Choice): number {
  let n = seats.size;
  for (const quantity of areas.values()) n += quantity;
  return n;
}

export function totalOf(choice: Choice, layout: Layout): Money {
  const price = (category: number) => layout.categories[category]?.amount ?? 0;
  let amount = 0;
  for (const i of choice.seats) amount += price(layout.category[i]!);
  for (const area of layout.areas) amount += price(area.category) * (choice.areas.get(area.id) ?? 0);
  return { amount, currency: layout.currency };
}

export function isHeld(choice: Choice, hold: Hold | null): boolean {
  return hold !== null
    && hold.seats.length === choice.seats.size && hold.seats.every((i) => choice.seats.has(i))
    && hold.areas.length === choice.areas.size && hold.areas.every((a) => choice.areas.get(a.id) === a.quantity);
}

/** Said to the visitor above the cart, with a choice to hold instead where there is one. */
export interface Notice { text: string; offer?: { label: string; choice: Choice } }

const names = (layout: Layout, seats: number[]) => seats.filter((i) => i < layout.seats).map((i) => seatName(layout, i)).join(", ");

export function lostNotice(layout: Layout, lost: number[]): Notice {
  return { text: `${names(layout, lost)} ${lost.length === 1 ? "was" : "were"} just taken by someone else.` };
}

/** What the box office says when it was too late: what is gone, and what was free in the same moment. */
export function takenNotice(layout: Layout, problem: Problem): Notice {
  const taken = takenSeats(problem);
  const other = problem.body.alternative as Wish | null | undefined;
  const gone = names(layout, taken);
  const text = gone ? `${gone} ${taken.length === 1 ? "was" : "were"} just taken.` : problem.message;
  if (!other) return { text: `${text} Please choose again.` };
  const free = names(layout, other.seats);
  return { text: free ? `${text} Still free: ${free}.` : text, offer: { label: "Take these instead", choice: choiceOf(other) } };
}

export const takenSeats = (problem: Problem) => (problem.body.taken as number[] | undefined) ?? [];
