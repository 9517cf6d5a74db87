// The files of a picture by size: the thumbnail, and renditions that the server makes when they are first asked for.

const THUMBNAIL = 256; // pixels of its longest side
const WIDTHS = [512, 1024]; // as in common/domain/images.py

/** The URL of a smaller copy. The signature of the picture is valid for it. */
function rendition(imageUrl, width) {
  const [path, query] = imageUrl.split("?");
  const smaller = `${path.replace("/generated_images/", "/renditions/")}.${width}.webp`;
  return query ? `${smaller}?${query}` : smaller;
}

/** The sources of an <img> for a browser to choose from, by the size that it is drawn at. */
export function sources({ imageUrl, thumbnailUrl, width, height }) {
  if (Math.max(width, height) <= THUMBNAIL) return { src: thumbnailUrl };
  const narrower = WIDTHS.filter((each) => each < width);
  const wider = WIDTHS.find((each) => each >= width); // it is never enlarged: as wide as the picture
  const small = Math.round(Math.min(1, THUMBNAIL / Math.max(width, height)) * width);
  return {
    src: thumbnailUrl,
    srcset: [
      `${thumbnailUrl} ${small}w`,
      ...narrower.map((each) => `${rendition(imageUrl, each)} ${each}w`),
      ...(wider ? [`${rendition(imageUrl, wider)} ${width}w`] : []),
    ].join(", "),
  };
}
