"""SHA256SUMS of the products.

Owns: which files are products.
"""
import hashlib

from tools import OUT

PRODUCTS = ("*.tar.gz", "*.whl", "*.deb", "*.tgz", "*.cdx.json")


def build():
    products = sorted(path for pattern in PRODUCTS for path in OUT.glob(pattern))
    path = OUT / "SHA256SUMS"
    path.write_text("".join(f"{hashlib.sha256(product.read_bytes()).hexdigest()}  {product.name}\n" for product in products))
    return path
