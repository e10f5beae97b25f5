// Pictures before they are sent: decoded where the browser can, and made smaller where that saves time on a slow line.

const LONGEST_SIDE = 2048 // pixels; the detector looks at no more than 1920
const SMALL_BYTES = 400_000 // goes as it is: a tenth of a second at 30 Mbit/s
const QUALITY = 0.88
const SHOWN_EVERYWHERE = ['image/jpeg', 'image/png', 'image/gif', 'image/webp']

// Whether it can be sent before it is decoded: unchanged, and of a kind that every browser shows.
export function goesAsItIs(file) {
  return file.size > 0 && file.size <= SMALL_BYTES && SHOWN_EVERYWHERE.includes(file.type)
}

// -> { blob: what is sent, bitmap: the same picture decoded, or null where this browser cannot show its format }
export async function readPicture(file) {
  let bitmap
  try {
    bitmap = await createImageBitmap(file)
  } catch {
    return { blob: file, bitmap: null } // HEIC and TIFF in most browsers, or no picture: the server finds out
  }
  if (file.size <= SMALL_BYTES) return { blob: file, bitmap }
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height))
  const canvas = new OffscreenCanvas(
    Math.max(1, Math.round(bitmap.width * scale)),
    Math.max(1, Math.round(bitmap.height * scale)),
  )
  const context = canvas.getContext('2d')
  context.fillStyle = '#fff' // what is transparent in a PNG
  context.fillRect(0, 0, canvas.width, canvas.height)
  context.imageSmoothingQuality = 'high'
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height)
  const reduced = await canvas.convertToBlob({ type: 'image/jpeg', quality: QUALITY })
  if (reduced.size >= file.size) return { blob: file, bitmap }
  bitmap.close()
  return { blob: reduced, bitmap: canvas.transferToImageBitmap() }
}
