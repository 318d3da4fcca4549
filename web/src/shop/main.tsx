import "../style/shop.css";
import { render } from "preact";
import { EventPage } from "./event";
import { EventList } from "./list";
import { OrderPage } from "./order";

// Each page is a document of its own: the address says which, and a link loads it.
const parts = location.pathname.split("/").filter(Boolean).map(decodeURIComponent);

async function page() {
  if (parts[0] === "events" && parts.length === 2) return <EventPage slug={parts[1]!} />;
  if (parts[0] === "events" && parts.length === 4) {
    const { SeatsPage } = await import("../seats/page"); // the map is the only heavy part
    return <SeatsPage slug={parts[1]!} performance={parts[3]!} />;
  }
  if (parts[0] === "orders" && parts.length === 3) return <OrderPage event={parts[1]!} id={parts[2]!} />;
  return <EventList />;
}

render(await page(), document.getElementById("app")!);
