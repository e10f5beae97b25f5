"""What the page says to visitors, apart from the words on a face's card (rendering.py) and in the table (table.py)."""

TITLE = "Age and gender, by appearance"
INTRODUCTION = """
<h1>How old does this face look?</h1>
<p>Estimates the age and gender that faces <b>appear</b> to have. It judges looks only, and is often off by years.
<b>Never use it to decide anything about a person</b>: not identity, age checks, hiring, policing or access.</p>
<p class="quiet">Your picture is deleted within {keep}, and the copy with boxes at most {keep} after it was drawn.
Pictures of the live webcam are never written to disk. Answers are not logged.</p>
"""
# In place of Gradio's own words, for browsers set to English.
GRADIO_WORDS = {
    "audio.record": "Start",  # the webcam's button says "Record", but nothing is recorded
    "upload_text.drop_image": "Drop a picture here",
    "upload_text.drop_file": "Drop pictures here",
    "upload_text.click_to_upload": "Click to choose",
}

AGE_RANGES = "Age ranges"
AGE_RANGES_HELP = "Choose a set, or type your own such as 0-17, 18-39, 40+ and press Enter"
BUSY = "No answer this time. The demo may be busy, or you asked too often. Try again in a moment, or reload the page."

# Picture tab
PICTURE = "Your picture (up to {megabytes} MB)"
PICTURE_ALT = "The picture you chose"
EXAMPLES = "Or try this one: astronaut Eileen Collins (NASA, public domain)"
USE_EXAMPLE = "Use the picture of astronaut Eileen Collins"
SALIENCY = "Show saliency maps"
SALIENCY_HELP = "They show which parts of a face matter most for the answer (SmoothGrad)"
CHOOSE = "Choose a picture: every face in it is marked here."
TRY_AGAIN = "Try again"
WHOLE_PICTURE = "Treat the whole picture as one face"
NO_FACE = (
    "No face was found. Very small, covered or turned faces are often missed. Try another picture, or treat the whole "
    "picture as one face."
)
MAPS_LEFT_OUT = "Saliency maps are shown for the first {count} of them."

# Webcam tab
WEBCAM = (
    "The live picture is mirrored. About {frames_per_second:.0f} pictures a second are analysed, for up to {limit} at a "
    "time. Leaving this tab turns the camera off. To take a single photo, use the camera button on the Picture tab."
)
NO_FACE_LIVE = "No face in sight. Come closer, or into the light."
NO_CAMERA = (
    "The camera does not start. Allow it in your browser, and close other programs that use it. It works only on an https "
    "page, or on the computer that runs this demo."
)
WEBCAM_BUSY = "All webcam places are taken. Yours starts as soon as one is free."
WEBCAM_OFF = "The webcam is off. It stops by itself after {limit}; you can start it again."

# Several tab
SEVERAL = "Up to {pictures} pictures of up to {megabytes} MB each"
FIND = "Find the faces"
PRESS_FIND = f"Press “{FIND}” to see the answer."
NO_PICTURES = "Choose some pictures first."
TOO_MANY_PICTURES = "At most {most} pictures at once; you chose {chosen}. Choose fewer."


def duration(seconds: int) -> str:
    """`90` -> "90 seconds", `600` -> "10 minutes"; rounded up, so that no time is promised shorter than it is."""
    return f"{seconds} seconds" if seconds < 120 else f"{-(-seconds // 60)} minutes"


def count_faces(count: int) -> str:
    return {0: "No face found.", 1: "1 face found."}.get(count, f"{count} faces found.")
