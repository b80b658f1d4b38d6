"""From one lesson source to the notebooks that are shipped, and the proofs that they hold.

Main path: build.build() writes notebooks/ and solutions/; proof.prove() proves each exercise from four sides.
"""
