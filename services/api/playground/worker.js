// A service worker that only opens the page when a notification is clicked. It intercepts no request and stores nothing.

self.addEventListener("notificationclick", (event) => {
  const { id, page } = event.notification.data;
  event.notification.close();
  event.waitUntil(open(id, page));
});

async function open(id, page) {
  const tabs = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const addresses = [page, page.slice(0, -1)]; // a proxy may serve the page without the slash at the end
  const tab = tabs.find(({ url }) => addresses.includes(url.split(/[?#]/)[0]));
  if (!tab) return self.clients.openWindow(`${page}#${id}`);
  tab.postMessage({ open: id });
  return tab.focus();
}
