"""Are the marks of files read that the C2PA project's own library has signed? `pip install c2pa-python; python benchmarks/marks_oracle.py`.

A picture of noise is signed as generated, as taken by a camera and as edited, in six formats, with a certificate that `openssl` makes for
the occasion; `data.marks` has to name the digital source type and the program. Two seconds. Nothing of it is kept.
"""
import argparse
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from fakeface.data.marks import read_marks

FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "AVIF": "image/avif", "TIFF": "image/tiff", "GIF": "image/gif"}
KINDS = {"trainedAlgorithmicMedia": "generated", "digitalCapture": "camera", "compositeWithTrainedAlgorithmicMedia": "edited"}
PROGRAM = "report card of marks"
EXTENSIONS = """[ca]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
[leaf]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=critical,emailProtection
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
"""
COMMANDS = """ecparam -name prime256v1 -genkey -noout -out ca.key
req -new -key ca.key -subj /C=XX/O=Test/CN=CA -out ca.csr
x509 -req -in ca.csr -signkey ca.key -days 30 -extfile ext.cnf -extensions ca -out ca.pem
ecparam -name prime256v1 -genkey -noout -out raw.key
pkcs8 -topk8 -nocrypt -in raw.key -out leaf.key
req -new -key leaf.key -subj /C=XX/O=Test/CN=Leaf -out leaf.csr
x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 20 -extfile ext.cnf -extensions leaf -out leaf.pem"""


def certificate(folder: Path) -> tuple[bytes, bytes]:
    "A chain and a key that nobody trusts."
    (folder/"ext.cnf").write_text(EXTENSIONS)
    for line in COMMANDS.splitlines(): subprocess.run(["openssl", *line.split()], cwd=folder, check=True, capture_output=True)
    return (folder/"leaf.pem").read_bytes() + (folder/"ca.pem").read_bytes(), (folder/"leaf.key").read_bytes()


def signed(c2pa: object, format: str, kind: str, chain: bytes, key: bytes) -> bytes:
    "A signed file."
    picture, out = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)), io.BytesIO()
    picture.save(source := io.BytesIO(), format)
    source.seek(0)
    action = dict(action="c2pa.created", digitalSourceType=f"http://cv.iptc.org/newscodes/digitalsourcetype/{kind}")
    manifest = dict(claim_generator_info=[dict(name=PROGRAM, version="1")], title="noise", format=FORMATS[format],
                    assertions=[dict(label="c2pa.actions", data=dict(actions=[action]))])
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", chain, key, None))
    c2pa.Builder(json.dumps(manifest)).sign(signer, FORMATS[format], source, out)
    return out.getvalue()


def main() -> None:
    "Signs, reads, counts."
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    try: import c2pa
    except ImportError: sys.exit("the oracle is not here: pip install c2pa-python")
    right, n = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        chain, key = certificate(Path(folder))
        for format in FORMATS:
            for kind, says in KINDS.items():
                file = signed(c2pa, format, kind, chain, key)
                found = [m for m in read_marks(file) if m.kind == "c2pa"]
                good = len(found) == 1 and found[0].says == says and PROGRAM in found[0].text
                right, n = right + good, n + 1
                read = found[0].text if found else "nothing read"
                print(f"{format:5} {kind:37} {len(file):>9,} bytes  {'right' if good else 'WRONG'}: {read}")
    print(f"{right} of {n} read as they were signed")


if __name__ == "__main__":
    main()
