"""What lies in a folder of exported files. Nothing here imports torch."""

FILES = {"onnx": "model.onnx", "onnx-int8": "model-int8.onnx", "onnx-int8-static": "model-int8-static.onnx"}
EXPORT = "export.json"  # how each file was made, what it loses, and on which machine that was measured
EXPECTED = "logits.tsv"  # of the model, for the rows that the files were compared on
