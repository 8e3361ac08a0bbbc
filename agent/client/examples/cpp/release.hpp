// A release of quantd on ONNX Runtime's CPU provider: read model.json, make the input, run the
// engine.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <opencv2/imgproc.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace quantd {

namespace fs = std::filesystem;
using json = nlohmann::json;

// "preprocess" of model.json. A frame is resized as 8-bit pixels, its colours are ordered, then
// (pixel * scale - mean) / std is computed in float32.
struct Preprocess {
  int width, height, pad_value;
  bool nhwc, letterbox, centered;
  std::string color, shrink, enlarge, dtype;
  float scale;
  std::vector<float> grey_weights, mean, std;  // grey: of red, green and blue

  explicit Preprocess(const json& given)
      : width(given.at("width")),
        height(given.at("height")),
        pad_value(given.at("pad_value")),
        nhwc(given.at("layout") == "NHWC"),
        letterbox(given.at("resize") == "letterbox"),
        centered(given.at("centered")),
        color(given.at("color")),
        shrink(given.at("interpolation").at("shrink")),
        enlarge(given.at("interpolation").at("enlarge")),
        dtype(given.at("dtype")),
        scale(given.at("scale")),
        grey_weights(given.at("grey_weights").get<std::vector<float>>()),
        mean(given.at("mean").get<std::vector<float>>()),
        std(given.at("std").get<std::vector<float>>()) {}

  int channels() const { return color == "GRAY" ? 1 : 3; }

  // Returns where a frame lies in the model's input, px. std::nearbyint rounds halves to even.
  cv::Rect placement(const cv::Mat& frame) const {
    if (!letterbox) return {0, 0, width, height};
    const double factor = std::min(double(width) / frame.cols, double(height) / frame.rows);
    cv::Rect at(0, 0, std::max(1, int(std::nearbyint(frame.cols * factor))),
                std::max(1, int(std::nearbyint(frame.rows * factor))));
    if (centered) at.x = (width - at.width) / 2, at.y = (height - at.height) / 2;
    return at;
  }

  // Returns a BGR frame in the size of the model's input.
  cv::Mat fit(const cv::Mat& frame) const {
    static const std::map<std::string, int> flags = {{"nearest", cv::INTER_NEAREST},
                                                     {"linear", cv::INTER_LINEAR},
                                                     {"cubic", cv::INTER_CUBIC},
                                                     {"area", cv::INTER_AREA},
                                                     {"lanczos4", cv::INTER_LANCZOS4}};
    const cv::Rect at = placement(frame);
    cv::Mat inner = frame;
    if (frame.size() != at.size()) {
      const bool shrinks = frame.cols >= at.width && frame.rows >= at.height;
      cv::resize(frame, inner, at.size(), 0, 0, flags.at(shrinks ? shrink : enlarge));
    }
    if (!letterbox) return inner;
    cv::Mat padded(height, width, CV_8UC3, cv::Scalar::all(pad_value));
    inner.copyTo(padded(at));
    return padded;
  }

  // Calls put(index in the tensor, value) for each value of one row of the batch.
  template <typename Put>
  void compute(const cv::Mat& frame, Put put) const {
    const cv::Mat image = fit(frame);
    const auto of = [](const std::vector<float>& each, int channel) {
      return each.size() == 1 ? each[0] : each.at(channel);
    };
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        const cv::Vec3b& bgr = image.at<cv::Vec3b>(y, x);
        for (int c = 0; c < channels(); ++c) {
          float value = bgr[color == "RGB" ? 2 - c : c];
          if (color == "GRAY")
            value = bgr[0] * grey_weights[2] + bgr[1] * grey_weights[1] + bgr[2] * grey_weights[0];
          value = (value * scale - of(mean, c)) / of(std, c);
          const size_t pixel = size_t(y) * width + x;
          put(nhwc ? pixel * channels() + c : size_t(c) * width * height + pixel, value);
        }
      }
    }
  }
};

// The releases of all of an application share an Ort::Env.
class Release {
 public:
  // `folder` is the release's own, not the link `current`, which may lead elsewhere in between.
  Release(const Ort::Env& env, const fs::path& folder)
      : model_(json::parse(std::ifstream(folder / "model.json"))),
        preprocess_(accepted().at("preprocess")) {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(model_.at("runtime").at("threads"));
    const fs::path engine =
        folder / fs::path(model_.at("engine").at("file").get<std::string>()).filename();
    if (fs::file_size(engine) != model_.at("engine").at("bytes"))
      throw std::runtime_error(engine.string() + " is not the file that model.json describes");
    session_ = std::make_unique<Ort::Session>(env, engine.c_str(), options);
    input_ = model_.at("inputs").at(0).at("name");
    shape_ = model_.at("inputs").at(0).at("shape").get<std::vector<int64_t>>();
    for (const json& output : model_.at("outputs")) outputs_.push_back(output.at("name"));
  }

  std::string id() const { return model_.at("release"); }
  const json& model() const { return model_; }  // with task, decoding, names of classes
  const std::vector<std::string>& outputs() const { return outputs_; }

  // Runs the engine on a BGR frame, which fills all rows of the batch; returns the raw outputs.
  std::vector<Ort::Value> run(const cv::Mat& frame) {
    const std::string& dtype = preprocess_.dtype;
    if (dtype == "float32") return run<float>(frame, [](float value) { return value; });
    if (dtype == "float16")
      return run<Ort::Float16_t>(frame, [](float value) { return Ort::Float16_t(value); });
    if (dtype == "uint8") return run<uint8_t>(frame, rounded<uint8_t>);
    if (dtype == "int8") return run<int8_t>(frame, rounded<int8_t>);
    throw std::runtime_error("model.json: unknown dtype " + dtype);
  }

 private:
  // Returns model.json, unless this program can't run the release.
  const json& accepted() const {
    const json& runtime = model_.at("runtime");
    if (model_.at("schema") != 2)
      throw std::runtime_error("model.json has schema " + model_.at("schema").dump() + ", not 2");
    if (runtime.at("kind") != "onnxruntime")
      throw std::runtime_error("the release is for " + runtime.at("kind").dump());
    if (runtime.at("providers") != json::array({"CPUExecutionProvider"}))
      throw std::runtime_error("the release is for " + runtime.at("providers").dump());
    return model_;
  }

  template <typename T>
  static T rounded(float value) {
    using Limits = std::numeric_limits<T>;
    return T(std::clamp(std::nearbyint(value), float(Limits::min()), float(Limits::max())));
  }

  template <typename T, typename Convert>
  std::vector<Ort::Value> run(const cv::Mat& frame, Convert convert) {
    Ort::AllocatorWithDefaultOptions allocator;
    Ort::Value tensor = Ort::Value::CreateTensor<T>(allocator, shape_.data(), shape_.size());
    T* first = tensor.GetTensorMutableData<T>();
    preprocess_.compute(frame, [&](size_t at, float value) { first[at] = convert(value); });
    const size_t row = tensor.GetTensorTypeAndShapeInfo().GetElementCount() / shape_.at(0);
    for (int64_t other = 1; other < shape_.at(0); ++other)
      std::memcpy(first + other * row, first, row * sizeof(T));
    std::vector<const char*> names;
    for (const std::string& output : outputs_) names.push_back(output.c_str());
    const char* input = input_.c_str();
    return session_->Run(Ort::RunOptions(), &input, &tensor, 1, names.data(), names.size());
  }

  json model_;
  Preprocess preprocess_;
  std::unique_ptr<Ort::Session> session_;
  std::string input_;
  std::vector<int64_t> shape_;
  std::vector<std::string> outputs_;
};

}  // namespace quantd
